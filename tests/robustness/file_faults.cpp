// A library for LD_PRELOAD that counts the file operations below one folder, and lets the n-th of them fail or kills the
// process there. `file_faults.py` compiles and drives it.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace {

// The order is that of OPERATIONS in file_faults.py.
enum Operation { kOpen, kCreate, kRead, kWrite, kSync, kRename, kFolder, kRemove };

// An action is the number of an error, or one of these.
enum Action { kShort = -1, kKill = -2, kHalfAndKill = -3, kInterrupt = -4 };

char root[PATH_MAX] = "";
int counted = 0;  // bits of the operations that count
long fatal = 0;  // the operation that fails, from 1; 0 for none
int action = 0;
int lasting = 0;  // whether all later operations fail too

// Shared with child processes, so that the parent of a killed process reads it.
std::atomic<long>* operations() {
    static auto* shared = static_cast<std::atomic<long>*>(
        mmap(nullptr, sizeof(std::atomic<long>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    return shared;
}

template <typename Function>
Function* next(const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

ssize_t plain_write(int file, const void* data, size_t size) {
    static auto* original = next<ssize_t(int, const void*, size_t)>("write");
    return original(file, data, size);
}

bool below_root(const char* path) {
    const size_t length = strlen(root);
    return length > 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

bool open_below_root(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return false;
    path[length] = '\0';
    return below_root(path);
}

bool below_root_at(int folder, const char* path) {
    if (path == nullptr) return false;
    if (path[0] == '/') return below_root(path);
    if (folder != AT_FDCWD) return open_below_root(folder);
    char current[PATH_MAX];
    return getcwd(current, sizeof current) != nullptr && below_root(current);
}

// Counts an operation on a file below the folder. Returns the action if it is its turn, otherwise 0.
int due(Operation operation) {
    if (!(counted >> operation & 1)) return 0;
    const long number = ++*operations();
    const bool now = fatal > 0 && (number == fatal || (lasting && number > fatal));
    if (!now) return 0;
    if (action == kKill || (action == kHalfAndKill && operation != kWrite)) kill(getpid(), SIGKILL);
    if (action == kInterrupt) {
        raise(SIGINT);
        return 0;
    }
    if (action == kShort && operation != kWrite) return EIO;
    return action;
}

// Sets errno if the operation fails.
bool fails(Operation operation) {
    const int found = due(operation);
    if (found <= 0) return false;
    errno = found;
    return true;
}

// Writes half of the bytes where the action asks for that; returns whether the call is done, and its result.
template <typename Write>
bool fails_to_write(int file, size_t size, ssize_t* result, Write write_some) {
    if (!open_below_root(file)) return false;
    const int found = due(kWrite);
    if (found == 0) return false;
    if (found > 0) {
        errno = found;
        *result = -1;
        return true;
    }
    *result = size > 1 ? write_some(size / 2) : 0;
    if (found == kHalfAndKill) kill(getpid(), SIGKILL);
    // The disk is full after a short write.
    action = ENOSPC;
    lasting = 1;
    if (*result <= 0) {
        errno = ENOSPC;
        *result = -1;
    }
    return true;
}

bool fails_to_open(int folder, const char* path, int flags) {
    if (!below_root_at(folder, path)) return false;
    return fails((flags & (O_CREAT | O_WRONLY | O_RDWR)) ? kCreate : kOpen);
}

mode_t mode_of(int flags, va_list rest) { return (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; }

}  // namespace

extern "C" {

void faults_arm(const char* folder, int which, long number, int what, int stays) {
    snprintf(root, sizeof root, "%s", folder);
    counted = which;
    fatal = number;
    action = what;
    lasting = stays;
    *operations() = 0;
}

long faults_count() { return *operations(); }

#define DEFINE_OPEN(NAME)                                                \
    int NAME(const char* path, int flags, ...) {                         \
        va_list rest;                                                    \
        va_start(rest, flags);                                           \
        const mode_t mode = mode_of(flags, rest);                        \
        va_end(rest);                                                    \
        if (fails_to_open(AT_FDCWD, path, flags)) return -1;             \
        static auto* original = next<int(const char*, int, ...)>(#NAME); \
        return original(path, flags, mode);                              \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(NAME)                                                   \
    int NAME(int folder, const char* path, int flags, ...) {                  \
        va_list rest;                                                         \
        va_start(rest, flags);                                                \
        const mode_t mode = mode_of(flags, rest);                             \
        va_end(rest);                                                         \
        if (fails_to_open(folder, path, flags)) return -1;                    \
        static auto* original = next<int(int, const char*, int, ...)>(#NAME); \
        return original(folder, path, flags, mode);                           \
    }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

#define DEFINE_FOPEN(NAME)                                                                             \
    FILE* NAME(const char* path, const char* mode) {                                                   \
        if (fails_to_open(AT_FDCWD, path, strpbrk(mode, "wa+") ? O_WRONLY : O_RDONLY)) return nullptr; \
        static auto* original = next<FILE*(const char*, const char*)>(#NAME);                          \
        return original(path, mode);                                                                   \
    }
DEFINE_FOPEN(fopen)
DEFINE_FOPEN(fopen64)

ssize_t write(int file, const void* data, size_t size) {
    ssize_t result;
    auto some = [&](size_t part) { return plain_write(file, data, part); };
    return fails_to_write(file, size, &result, some) ? result : plain_write(file, data, size);
}

ssize_t writev(int file, const iovec* parts, int count) {
    static auto* original = next<ssize_t(int, const iovec*, int)>("writev");
    ssize_t result;
    // Half of the first part that is not empty.
    auto some = [&](size_t) {
        const iovec* first = std::find_if(parts, parts + count, [](const iovec& part) { return part.iov_len > 0; });
        return first == parts + count ? ssize_t{0} : plain_write(file, first->iov_base, first->iov_len / 2);
    };
    return fails_to_write(file, 2, &result, some) ? result : original(file, parts, count);
}

#define DEFINE_PWRITE(NAME)                                                                             \
    ssize_t NAME(int file, const void* data, size_t size, off_t offset) {                               \
        static auto* original = next<ssize_t(int, const void*, size_t, off_t)>(#NAME);                  \
        ssize_t result;                                                                                 \
        auto some = [&](size_t part) { return original(file, data, part, offset); };                    \
        return fails_to_write(file, size, &result, some) ? result : original(file, data, size, offset); \
    }
DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)

// Inside the C library, fwrite does not call the function above.
size_t fwrite(const void* data, size_t size, size_t count, FILE* file) {
    static auto* original = next<size_t(const void*, size_t, size_t, FILE*)>("fwrite");
    ssize_t result;
    auto some = [&](size_t part) {
        const size_t written = original(data, 1, part, file);
        fflush(file);
        return static_cast<ssize_t>(written);
    };
    if (!fails_to_write(fileno(file), size * count, &result, some)) return original(data, size, count, file);
    return result <= 0 ? 0 : result / std::max<size_t>(size, 1);
}

ssize_t read(int file, void* data, size_t size) {
    if (open_below_root(file) && fails(kRead)) return -1;
    static auto* original = next<ssize_t(int, void*, size_t)>("read");
    return original(file, data, size);
}

int fsync(int file) {
    if (open_below_root(file) && fails(kSync)) return -1;
    static auto* original = next<int(int)>("fsync");
    return original(file);
}

int rename(const char* from, const char* to) {
    if (below_root_at(AT_FDCWD, to) && fails(kRename)) return -1;
    static auto* original = next<int(const char*, const char*)>("rename");
    return original(from, to);
}

int mkdir(const char* path, mode_t mode) {
    if (below_root_at(AT_FDCWD, path) && fails(kFolder)) return -1;
    static auto* original = next<int(const char*, mode_t)>("mkdir");
    return original(path, mode);
}

int unlink(const char* path) {
    if (below_root_at(AT_FDCWD, path) && fails(kRemove)) return -1;
    static auto* original = next<int(const char*)>("unlink");
    return original(path);
}

}  // extern "C"
