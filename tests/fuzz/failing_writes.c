/* Preloaded by torture.py: lets the n-th write below a folder fail, and all later ones too if the disk "is full".

   Counted are the calls that create, write, sync, rename, link or make below the folder, whoever makes them: Python,
   torch, PyAV, safetensors. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char place[PATH_MAX];
static long first, count;
static int code;

void fail_writes(const char *folder, long number, int error) {
    first = number, code = error, count = 0;
    strncpy(place, folder, sizeof place - 1);
}

long counted_writes(void) { return count; }

static int fails(const char *path) {
    if (!place[0] || !path || !strstr(path, place)) return 0;
    long now = __sync_add_and_fetch(&count, 1);
    if (now != first && !(code == ENOSPC && first && now > first)) return 0;
    errno = code;
    return 1;
}

static int fails_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!place[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); return fails_fd(fd) ? -1 : real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int n) { REAL(writev); return fails_fd(fd) ? -1 : real(fd, parts, n); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return fails_fd(fd) ? -1 : real(fd, data, size, at);
}
int fsync(int fd) { REAL(fsync); return fails_fd(fd) ? -1 : real(fd); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return fails_fd(fd) ? -1 : real(fd, size); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return fails(path) ? -1 : real(path, mode); }
int link(const char *from, const char *to) { REAL(link); return fails(to) ? -1 : real(from, to); }
int rename(const char *from, const char *to) { REAL(rename); return fails(to) ? -1 : real(from, to); }

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return (flags & O_CREAT) && fails(path) ? -1 : real(path, flags, mode);
}
