/* cuDNN and cuBLASLt by version: those that the process has already (another package's), then in
 * the folders that were named (the wheels', a toolkit's), then in the system's places. Opened once
 * for the process and never closed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "runtime.h"

#define OLDEST_CUDNN 90100 /* 9.1 */

typedef struct library {
    const char *file, *what, *install;
} library;

static const library cudnn = {"libcudnn.so.9", "cuDNN 9", "nvidia-cudnn-cu13"};
static const library blaslt = {"libcublasLt.so.13", "cuBLAS 13", "nvidia-cublas"};
static const library nvrtc = {"libnvrtc.so.13", "nvrtc 13", "nvidia-cuda-nvrtc"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static rc_libraries functions;
static bool there;

/* cuDNN opens its own parts later, from the folder that it lies in. */
static void *
open_one(const library *l, const char *folders)
{
    void *handle = dlopen(l->file, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    while (!handle && *folders) {
        char path[4096];
        size_t length = strcspn(folders, ":");
        int wrote = snprintf(path, sizeof path, "%.*s/%s", (int)length, folders, l->file);
        handle = wrote > 0 && (size_t)wrote < sizeof path ? dlopen(path, RTLD_NOW | RTLD_GLOBAL)
                                                          : NULL;
        folders += length + (folders[length] == ':');
    }
    return handle ? handle : dlopen(l->file, RTLD_NOW | RTLD_GLOBAL);
}

static rc_status
missing(const library *l, const char *why, rc_error *err)
{
    return rc_fail(err, RC_DEVICE, "device: %s (%s) is needed and %.200s: pip install 'reidc[cuda]' "
                   "(or %s), or name its folder in LD_LIBRARY_PATH", l->what, l->file, why,
                   l->install);
}

#define FIND(name)                                                            \
    if (!missed) {                                                            \
        void *symbol = dlsym(handle, #name);                                  \
        memcpy(&found.name, &symbol, sizeof symbol);                          \
        missed = symbol ? NULL : #name;                                       \
    }

static rc_status
find_all(const char *folders, rc_error *err)
{
    rc_libraries found;
    const char *missed = NULL;
    char why[128];
    /* First, as cuDNN needs it, too. */
    void *handle = open_one(&blaslt, folders);
    if (!handle) {
        return missing(&blaslt, "cannot be found", err);
    }
    RC_CUBLASLT_FUNCTIONS(FIND)
    if (missed) {
        snprintf(why, sizeof why, "the one found has no %s", missed);
        return missing(&blaslt, why, err);
    }
    /* cuDNN's engines that compile at run time look for it by name alone, which finds what is open;
     * without it cuDNN recommends others. */
    (void)open_one(&nvrtc, folders);
    handle = open_one(&cudnn, folders);
    if (!handle) {
        return missing(&cudnn, "cannot be found", err);
    }
    RC_CUDNN_FUNCTIONS(FIND)
    if (missed || found.cudnnGetVersion() < OLDEST_CUDNN) {
        snprintf(why, sizeof why, missed ? "the one found has no %s" : "the one found is too old%s",
                 missed ? missed : "");
        return missing(&cudnn, why, err);
    }
    functions = found;
    there = true;
    return RC_OK;
}

rc_status
rc_libraries_get(const char *folders, const rc_libraries **out, rc_error *err)
{
    pthread_mutex_lock(&lock);
    rc_status status = there ? RC_OK : find_all(folders, err);
    pthread_mutex_unlock(&lock);
    *out = &functions;
    return status;
}
