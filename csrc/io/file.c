/* Files read in checked pieces, and files that appear complete or not at all: a temporary file
 * in the same folder, synced, renamed, and the folder synced. Called by safetensors.c. */
#define _GNU_SOURCE
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((int64_t)1 << 30) /* the system calls take no more than 2 GiB at once */

static rc_status
fail_file(rc_error *err, const char *path, const char *doing)
{
    int code = errno;
    rc_status status = code == ENOENT ? RC_NOT_FOUND : RC_FILE;
    return rc_fail(err, status, "%.300s: %s: %s", path, doing, strerror(code));
}

rc_status
rc_file_in_open(const char *path, int *fd, int64_t *size, rc_error *err)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
    if (*fd < 0) {
        return fail_file(err, path, "cannot open");
    }
    if (fstat(*fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(*fd);
        *fd = -1;
        return rc_fail(err, RC_FILE, "%.300s: not a regular file", path);
    }
    *size = info.st_size;
    return RC_OK;
}

rc_status
rc_file_in_read(int fd, int64_t offset, void *out, int64_t size, const char *path, rc_error *err)
{
    char *to = out;
    while (size > 0) {
        ssize_t got = pread(fd, to, (size_t)(size < CHUNK ? size : CHUNK), offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail_file(err, path, "cannot read");
        }
        if (got == 0) {
            return rc_fail(err, RC_FILE, "%.300s: truncated, %lld bytes missing at %lld", path,
                           (long long)size, (long long)offset);
        }
        to += got;
        offset += got;
        size -= got;
    }
    return RC_OK;
}

void
rc_file_in_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

rc_status
rc_file_out_open(rc_file_out *file, const char *path, rc_error *err)
{
    static atomic_uint counter; /* lint: mutable static, makes names of temporary files differ */
    *file = (rc_file_out){.fd = -1};
    size_t length = strlen(path);
    const char *slash = strrchr(path, '/');
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    file->path = rc_strdup(path);
    file->temporary = rc_alloc((int64_t)length + 48, 1);
    if (file->temporary) {
        file->temporary[0] = 0; /* abort removes what is named here: nothing yet */
    }
    if (!file->path || !file->temporary) {
        rc_file_out_abort(file);
        return rc_fail(err, RC_MEMORY, "out of memory: a file name");
    }
    for (int attempt = 0; attempt < 100 && file->fd < 0; attempt++) {
        snprintf(file->temporary, length + 48, "%.*s.%s.%ld-%u.tmp", (int)folder, path,
                 path + folder, (long)getpid(), atomic_fetch_add(&counter, 1));
        file->fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (file->fd < 0 && errno != EEXIST) {
            break;
        }
    }
    if (file->fd < 0) {
        rc_status status = fail_file(err, path, "cannot create a file in this folder");
        file->temporary[0] = 0;
        rc_file_out_abort(file);
        return status;
    }
    return RC_OK;
}

rc_status
rc_file_out_write(rc_file_out *file, const void *data, int64_t size, rc_error *err)
{
    const char *from = data;
    while (size > 0) {
        ssize_t put = write(file->fd, from, (size_t)(size < CHUNK ? size : CHUNK));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return fail_file(err, file->path, "cannot write");
        }
        from += put;
        size -= put;
    }
    return RC_OK;
}

static void
sync_folder(const char *path) /* best effort: some file systems have no such thing */
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? rc_strdup(path) : rc_strdup(".");
    if (folder) {
        if (slash) {
            folder[slash == path ? 1 : slash - path] = 0;
        }
        int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0) {
            (void)!fsync(fd);
            close(fd);
        }
        rc_free(folder);
    }
}

rc_status
rc_file_out_commit(rc_file_out *file, rc_error *err)
{
    if (fsync(file->fd) != 0) {
        return fail_file(err, file->path, "cannot sync");
    }
    int fd = file->fd;
    file->fd = -1;
    if (close(fd) != 0) {
        return fail_file(err, file->path, "cannot close");
    }
    if (rename(file->temporary, file->path) != 0) {
        return fail_file(err, file->path, "cannot replace");
    }
    sync_folder(file->path);
    file->temporary[0] = 0; /* nothing to remove any more */
    rc_file_out_abort(file);
    return RC_OK;
}

void
rc_file_out_abort(rc_file_out *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->temporary && file->temporary[0]) {
        unlink(file->temporary);
    }
    rc_free(file->temporary);
    rc_free(file->path);
    *file = (rc_file_out){.fd = -1};
}
