// A JSON Schema as a grammar: every text of the grammar is a JSON text that satisfies the schema.
//
// Draft 2020-12, the part that a context-free grammar can hold: type (one or several), nullable,
// enum, const, properties, required, additionalProperties, items, prefixItems, minItems, maxItems,
// minLength, maxLength, pattern (regex.h), format of strings (json_formats.h), minimum and maximum
// (exclusive too), anyOf, oneOf of branches that are seen to have no value in common
// (json_overlap.h), a type beside either, allOf of objects, $ref inside the document. Properties
// come in the order of the schema; a list of properties without additionalProperties admits no
// others. Any other keyword that restricts, and any other format of a string, is an Error naming
// where it stands, since a text could then break it; annotations are passed over. What is produced
// may be less than what the schema admits (numbers of bounded length, little white space), never more.
#pragma once

#include <nlohmann/json.hpp>

#include "grammar/grammar.h"

namespace venturi::grammar {

// Code::kInvalidArgument for what is not a schema, kUnsupported for what cannot be held; both name the
// place, as in "#/properties/age".
Result<Grammar> json_schema_grammar(const nlohmann::ordered_json& schema);

// Any JSON object (response_format {"type": "json_object"}).
Grammar json_object_grammar();

}  // namespace venturi::grammar
