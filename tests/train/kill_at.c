/* Kill this process inside the so-many-th operation that changes files under a directory.

   Built and loaded by run_killed.py (LD_PRELOAD), so that writes of Python and of Rust count alike. A write that kills
   has written half of its bytes; an fsync, rename, link, unlink or rmdir that kills has not happened. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char under[PATH_MAX];
static long at = 0, count = 0;

void kill_at(const char *directory, long number) {
    strncpy(under, directory, sizeof under - 1);
    at = number;
    count = 0;
}

long num_operations(void) { return count; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count an operation on a path; return whether it is the last one. */
static int on_path(const char *path) {
    if (!under[0] || !path || strncmp(path, under, strlen(under))) return 0;
    return ++count == at;
}

static int on_file(int file) {
    char link[64], path[PATH_MAX];
    if (!under[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return on_path(path);
}

static int on_entry(int directory, const char *name) {
    return name && name[0] == '/' ? on_path(name) : directory == AT_FDCWD ? 0 : on_file(directory);
}

#define NEXT(type, name) ((type)dlsym(RTLD_NEXT, name))

ssize_t write(int file, const void *bytes, size_t size) {
    if (on_file(file)) {
        NEXT(ssize_t(*)(int, const void *, size_t), "write")(file, bytes, size / 2);
        die();
    }
    return NEXT(ssize_t(*)(int, const void *, size_t), "write")(file, bytes, size);
}

int fsync(int file) {
    if (on_file(file)) die();
    return NEXT(int (*)(int), "fsync")(file);
}

int rename(const char *from, const char *to) {
    if (on_path(from)) die();
    return NEXT(int (*)(const char *, const char *), "rename")(from, to);
}

int link(const char *from, const char *to) {
    if (on_path(from)) die();
    return NEXT(int (*)(const char *, const char *), "link")(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    if (on_entry(a, from)) die();
    return NEXT(int (*)(int, const char *, int, const char *, int), "linkat")(a, from, b, to, flags);
}

int unlink(const char *path) {
    if (on_path(path)) die();
    return NEXT(int (*)(const char *), "unlink")(path);
}

int unlinkat(int directory, const char *name, int flags) {
    if (on_entry(directory, name)) die();
    return NEXT(int (*)(int, const char *, int), "unlinkat")(directory, name, flags);
}

int rmdir(const char *path) {
    if (on_path(path)) die();
    return NEXT(int (*)(const char *), "rmdir")(path);
}
