#include "grammar/json_formats.h"

namespace venturi::grammar {

namespace {

struct Format {
  const char *name, *pattern;
};

// RFC 3339: the 29th of February is left out, and leap seconds, and the year 0, which many readers do not know.
#define YEAR "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
#define DATE YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
// Its appendix A.
#define COUNT "[0-9]{1,9}"
#define SECONDS COUNT "S"
#define MINUTES COUNT "M(" SECONDS ")?"
#define HOURS COUNT "H(" MINUTES ")?"
#define CLOCK "T(" HOURS "|" MINUTES "|" SECONDS ")"
#define DAYS COUNT "D"
#define MONTHS COUNT "M(" DAYS ")?"
#define YEARS COUNT "Y(" MONTHS ")?"
// RFC 1123: labels of at most 63 characters, and names of 253; eight labels of 28 stay below.
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,26}[A-Za-z0-9])?"
// RFC 5321: a dot-string of at most 64 characters, at a domain of several labels.
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
// RFC 4291, section 2.2; addresses that end as IPv4's are left out.
#define HEX "[0-9a-fA-F]{1,4}"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"

constexpr Format kFormats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P((" YEARS "|" MONTHS "|" DAYS ")(" CLOCK ")?|" CLOCK "|" COUNT "W)$"},
    {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    {"email", "^" ATOM "(\\.?" ATOM "){0,31}@(" LABEL "\\.){1,7}[A-Za-z]{2,24}$"},
    {"hostname", "^" LABEL "(\\." LABEL "){0,7}$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"ipv6", "^((" HEX ":){7}" HEX "|(" HEX ":){1,7}:|(" HEX ":){1,6}:" HEX "|(" HEX ":){1,5}(:" HEX "){2}|(" HEX ":){1,4}(:" HEX "){3}|"
             "(" HEX ":){1,3}(:" HEX "){4}|(" HEX ":){1,2}(:" HEX "){5}|" HEX ":(:" HEX "){6}|:((:" HEX "){1,7}|:))$"},
};

#undef YEAR
#undef DATE
#undef TIME
#undef COUNT
#undef SECONDS
#undef MINUTES
#undef HOURS
#undef CLOCK
#undef DAYS
#undef MONTHS
#undef YEARS
#undef LABEL
#undef ATOM
#undef HEX
#undef BYTE

}  // namespace

const char* format_pattern(std::string_view name) {
  for (const Format& format : kFormats)
    if (name == format.name) return format.pattern;
  return nullptr;
}

}  // namespace venturi::grammar
