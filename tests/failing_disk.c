/* A disk that fails or is slow when it is told to, for tests: put in front of libc by LD_PRELOAD.
 *
 * VENTURI_FAILING_DISK names a file with one line, read before every pread and pwritev:
 *   "eio NAME OFFSET"   reads that touch byte OFFSET or later of a file in whose path NAME is: EIO
 *   "short NAME BYTES"  reads of such a file return so many bytes at most, a multiple of 4096 for direct ones
 *   "slow NAME MS"      reads of such a file take so many milliseconds more
 *   "lazy NAME MS"      writes to such a file take so many milliseconds more
 *   "full NAME 0"       writes to such a file: ENOSPC
 * Anything else, or no file: a healthy disk. io_uring is refused, so that all reads come through here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t real_pread(int fd, void* to, size_t n, off_t offset) { return syscall(SYS_pread64, fd, to, n, offset); }

static int is_of(int fd, const char* name) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return strstr(path, name) != NULL;
}

/* What is told of the file, if anything. */
static int is_told(int fd, char kind[16], long long* value) {
  const char* told = getenv("VENTURI_FAILING_DISK");
  char text[512] = "", name[256] = "";
  const int control = told ? open(told, O_RDONLY | O_CLOEXEC) : -1;
  if (control >= 0) {
    if (real_pread(control, text, sizeof text - 1, 0) < 0) text[0] = 0;
    close(control);
  }
  if (sscanf(text, "%15s %255s %lld", kind, name, value) != 3 || !is_of(fd, name)) return 0;
  return 1;
}

static ssize_t failing_pread(int fd, void* to, size_t n, off_t offset) {
  char kind[16] = "";
  long long value = 0;
  if (!is_told(fd, kind, &value)) return real_pread(fd, to, n, offset);
  if (strcmp(kind, "slow") == 0) usleep((useconds_t)value * 1000);
  if (strcmp(kind, "eio") == 0 && offset + (long long)n > value) {
    errno = EIO;
    return -1;
  }
  if (strcmp(kind, "short") == 0 && (long long)n > value) n = (size_t)value;
  return real_pread(fd, to, n, offset);
}

ssize_t pread(int fd, void* to, size_t n, off_t offset) { return failing_pread(fd, to, n, offset); }
ssize_t pread64(int fd, void* to, size_t n, off_t offset) { return failing_pread(fd, to, n, offset); }

static ssize_t failing_pwritev(int fd, const struct iovec* parts, int n, off_t offset) {
  char kind[16] = "";
  long long value = 0;
  const int told = is_told(fd, kind, &value);
  if (told && strcmp(kind, "full") == 0) {
    errno = ENOSPC;
    return -1;
  }
  if (told && strcmp(kind, "lazy") == 0) usleep((useconds_t)value * 1000);
  return syscall(SYS_pwritev, fd, parts, n, offset, 0);
}

ssize_t pwritev(int fd, const struct iovec* parts, int n, off_t offset) { return failing_pwritev(fd, parts, n, offset); }
ssize_t pwritev64(int fd, const struct iovec* parts, int n, off_t offset) { return failing_pwritev(fd, parts, n, offset); }

struct io_uring;
int io_uring_queue_init(unsigned entries, struct io_uring* ring, unsigned flags) {
  (void)entries, (void)ring, (void)flags;
  return -EPERM;
}
