/* Opens the device library at first use. What is missing is said in one sentence that also says
 * what to install; nothing is looked for before somebody asks for a device. */
#include "device/device.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* lint: mutable static, guards these: */
static char library_path[4096], search_folders[16384];     /* lint: mutable static */
static const rc_device_api *table;                        /* lint: mutable static, set once */

rc_status
rc_device_paths(const char *library, const char *folders, rc_error *err)
{
    if (strlen(library) >= sizeof library_path || strlen(folders) >= sizeof search_folders) {
        return rc_fail(err, RC_ARGUMENT, "device: the folders' names are too long");
    }
    pthread_mutex_lock(&lock);
    if (!table) {
        strcpy(library_path, library);
        strcpy(search_folders, folders);
    }
    pthread_mutex_unlock(&lock);
    return RC_OK;
}

static rc_status
open_library(rc_error *err)
{
    if (!library_path[0] || access(library_path, R_OK) != 0) {
        return rc_fail(err, RC_DEVICE,
                       "device: this installation of reidc was built without its CUDA back end "
                       "(%.200s is not there); install nvcc 13 and reidc[cuda], then build "
                       "with REIDC_CUDA=1", library_path[0] ? library_path : "its library");
    }
    void *handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL); /* stays open */
    if (!handle) {
        return rc_fail(err, RC_DEVICE, "device: the CUDA back end cannot be opened: %.300s",
                       dlerror());
    }
    rc_device_entry entry;
    void *symbol = dlsym(handle, RC_DEVICE_ENTRY);
    memcpy(&entry, &symbol, sizeof entry);
    const rc_device_api *found = symbol ? entry() : NULL;
    if (!found || found->abi != RC_DEVICE_ABI) {
        dlclose(handle);
        return rc_fail(err, RC_DEVICE, "device: %.300s belongs to another version of reidc (table "
                       "%d, expected %d); build it again", library_path, found ? found->abi : 0,
                       RC_DEVICE_ABI);
    }
    table = found;
    return RC_OK;
}

rc_status
rc_device_get(const rc_device_api **out, const char **folders, rc_error *err)
{
    pthread_mutex_lock(&lock);
    rc_status status = table ? RC_OK : open_library(err);
    *out = table;
    *folders = search_folders;
    pthread_mutex_unlock(&lock);
    return status;
}

rc_status
rc_device_ask(int index, rc_device_info *out, int64_t *free_bytes, rc_error *err)
{
    const rc_device_api *api;
    const char *folders;
    rc_device *d = NULL;
    RC_TRY(rc_device_get(&api, &folders, err));
    RC_TRY(api->open(index, folders, &d, err));
    *out = *api->info(d);
    *free_bytes = api->free_bytes(d);
    api->close(d);
    return RC_OK;
}
