/* reidc._core: distances, ranking, intervals and the colour histogram. The public functions with
 * their defaults and docstrings are in reidc/evaluation.py; these check dtypes and shapes. */
#include "py/py.h"

/* Asked by long calls on the thread that made them, without the interpreter lock. */
static bool
signals_stop(void *Py_UNUSED(context))
{
    PyGILState_STATE state = PyGILState_Ensure();
    bool stop = PyErr_CheckSignals() < 0;
    PyGILState_Release(state);
    return stop;
}

static bool
metric_get(const char *name, rc_metric *metric)
{
    if (strcmp(name, "euclidean") == 0) {
        *metric = RC_METRIC_EUCLIDEAN;
    } else if (strcmp(name, "cosine") == 0) {
        *metric = RC_METRIC_COSINE;
    } else {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_ARGUMENT,
                            "metric: expected 'euclidean' or 'cosine', got '%.100s'", name), &err);
        return false;
    }
    return true;
}

/* Rows of numbers, (n, d): on the host or on a card. */
typedef struct row_set {
    PyObject *holder; /* owned */
    bool there;
    int card;
    const float *data;
    void *stream;
    int64_t n, d;
} row_set;

typedef struct embeddings {
    row_set query, gallery;
    int card; /* where both are; -1: on the host */
} embeddings;

static void
embeddings_clear(embeddings *e)
{
    Py_CLEAR(e->query.holder);
    Py_CLEAR(e->gallery.holder);
}

static bool
rows_get(PyObject *object, const char *what, row_set *out)
{
    rc_py_view view;
    int there = rc_py_view_get(object, what, &view);
    if (there < 0) {
        return false;
    }
    if (!there) {
        PyArrayObject *array = rc_py_array_f32(object, what, 2); /* new */
        if (array) {
            *out = (row_set){(PyObject *)array, false, -1, PyArray_DATA(array), NULL,
                          PyArray_DIM(array, 0), PyArray_DIM(array, 1)};
        }
        return array != NULL;
    }
    *out = (row_set){view.holder, true, view.card, view.data, view.stream, view.shape[0],
                  view.shape[1]};
    if (view.kind != 'f' || view.bits != 32) {
        rc_py_fail(RC_TYPE, "%s: expected float32 on the card, got another dtype", what);
        return false;
    }
    if (view.ndim != 2 || !rc_py_view_is_contiguous(&view)) {
        rc_py_fail(RC_ARGUMENT, "%s: expected 2 dimensions on the card%s", what,
                   view.ndim == 2 ? " that are contiguous (.contiguous())" : "");
        return false;
    }
    return true;
}

/* false: an exception; embeddings_clear all the same. */
static bool
embeddings_get(PyObject *query_in, PyObject *gallery_in, embeddings *e)
{
    row_set *q = &e->query, *g = &e->gallery;
    if (!rows_get(query_in, "query", q) || !rows_get(gallery_in, "gallery", g)) {
        return false;
    }
    if (q->d != g->d) {
        rc_py_fail(RC_ARGUMENT, "gallery: expected rows of %lld numbers as in query, got %lld",
                   (long long)q->d, (long long)g->d);
        return false;
    }
    if (q->there != g->there) {
        rc_py_fail(RC_ARGUMENT, "gallery: it is on %s, query is on %s", g->there ? "a card"
                   : "the CPU", q->there ? "a card" : "the CPU");
        return false;
    }
    if (q->there && q->card >= 0 && g->card >= 0 && q->card != g->card) {
        rc_py_fail(RC_ARGUMENT, "gallery: it is on cuda:%d, query is on cuda:%d", g->card, q->card);
        return false;
    }
    e->card = !q->there ? -1 : q->card >= 0 ? q->card : g->card >= 0 ? g->card : 0;
    return true;
}

/* Distances of embeddings wherever they are; one of the two is made. */
typedef struct distances {
    rc_distance *here;
    rc_device_distance *there;
} distances;

static rc_status
distances_new(const embeddings *e, rc_metric metric, int threads, distances *out, rc_error *err)
{
    const row_set *q = &e->query, *g = &e->gallery;
    if (e->card < 0) {
        return rc_distance_new(q->data, q->n, g->data, g->n, q->d, metric, threads, &out->here,
                               err);
    }
    rc_there query = {q->data, q->n, q->stream}, gallery = {g->data, g->n, g->stream};
    return rc_device_distance_new(e->card, &query, &gallery, q->d, metric, &out->there, err);
}

static void
distances_free(distances *d)
{
    rc_distance_free(d->here);
    rc_device_distance_free(d->there);
}

static PyObject *
compute_distance_matrix(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *query_in, *gallery_in;
    const char *name;
    int threads;
    rc_metric metric;
    if (!PyArg_ParseTuple(args, "OOsi", &query_in, &gallery_in, &name, &threads)
        || !metric_get(name, &metric)) {
        return NULL;
    }
    embeddings e = {0};
    PyArrayObject *out = NULL; /* owned */
    rc_error err = {0};
    if (!embeddings_get(query_in, gallery_in, &e)) {
        goto done;
    }
    npy_intp shape[2] = {e.query.n, e.gallery.n};
    out = rc_py_new_array(2, shape, NPY_FLOAT32);
    if (!out) {
        goto done;
    }
    float *result = PyArray_DATA(out);
    distances d = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = distances_new(&e, metric, threads, &d, &err);
    if (status == RC_OK) {
        status = d.there ? rc_device_distance_matrix(d.there, result, signals_stop, NULL, &err)
                         : rc_distance_matrix(d.here, result, signals_stop, NULL, &err);
    }
    distances_free(&d);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        Py_CLEAR(out);
    }
done:
    embeddings_clear(&e);
    return (PyObject *)out;
}

/* The four label arrays, owned. */
typedef struct label_arrays {
    PyArrayObject *q_pids, *g_pids, *q_camids, *g_camids;
} label_arrays;

static void
labels_clear(label_arrays *a)
{
    Py_CLEAR(a->q_pids);
    Py_CLEAR(a->g_pids);
    Py_CLEAR(a->q_camids);
    Py_CLEAR(a->g_camids);
}

static PyArrayObject *
label_get(PyObject *object, const char *what, int64_t length, const char *of)
{
    PyArrayObject *array = rc_py_array_i64(object, what, 1); /* new */
    if (array && PyArray_DIM(array, 0) != length) {
        rc_error err;
        rc_py_raise(rc_fail(&err, RC_ARGUMENT, "%s: expected %lld, one for each %s, got %lld",
                            what, (long long)length, of, (long long)PyArray_DIM(array, 0)), &err);
        Py_CLEAR(array);
    }
    return array;
}

static bool
labels_get(PyObject *q_pids, PyObject *g_pids, PyObject *q_camids, PyObject *g_camids,
           int64_t queries, int64_t gallery, label_arrays *a, rc_rank_labels *labels)
{
    *a = (label_arrays){0};
    if (!(a->q_pids = label_get(q_pids, "q_pids", queries, "query"))
        || !(a->g_pids = label_get(g_pids, "g_pids", gallery, "gallery image"))) {
        return false;
    }
    if (q_camids != Py_None && !(a->q_camids = label_get(q_camids, "q_camids", queries, "query"))) {
        return false;
    }
    if (g_camids != Py_None
        && !(a->g_camids = label_get(g_camids, "g_camids", gallery, "gallery image"))) {
        return false;
    }
    *labels = (rc_rank_labels){
        .queries = queries,
        .gallery = gallery,
        .q_pids = PyArray_DATA(a->q_pids),
        .g_pids = PyArray_DATA(a->g_pids),
        .q_camids = a->q_camids ? PyArray_DATA(a->q_camids) : NULL,
        .g_camids = a->g_camids ? PyArray_DATA(a->g_camids) : NULL,
    };
    return true;
}

/* New tuple (hits, first, draws or None, ap, inp) and the pointers into it. */
static PyObject *
result_new(int64_t queries, int cuhk03, rc_rank_result *result)
{
    npy_intp shape[2] = {queries, RC_CUHK03_DRAWS};
    PyArrayObject *hits = rc_py_new_array(1, shape, NPY_INT64);
    PyArrayObject *first = rc_py_new_array(1, shape, NPY_INT64);
    PyArrayObject *draws = cuhk03 ? rc_py_new_array(2, shape, NPY_INT64) : NULL;
    PyArrayObject *ap = rc_py_new_array(1, shape, NPY_FLOAT64);
    PyArrayObject *inp = rc_py_new_array(1, shape, NPY_FLOAT64);
    PyObject *tuple = NULL;
    if (hits && first && ap && inp && (draws || !cuhk03)) {
        *result = (rc_rank_result){PyArray_DATA(hits), PyArray_DATA(first),
                                   draws ? PyArray_DATA(draws) : NULL, PyArray_DATA(ap),
                                   PyArray_DATA(inp)};
        tuple = PyTuple_Pack(5, hits, first, draws ? (PyObject *)draws : Py_None, ap, inp);
    }
    Py_XDECREF(hits);
    Py_XDECREF(first);
    Py_XDECREF(draws);
    Py_XDECREF(ap);
    Py_XDECREF(inp);
    return tuple;
}

static PyObject *
rank_distmat(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *distmat_in, *q_pids, *g_pids, *q_camids, *g_camids;
    int cuhk03, trapezoid, threads;
    unsigned long long seed;
    if (!PyArg_ParseTuple(args, "OOOOOppKi", &distmat_in, &q_pids, &g_pids, &q_camids, &g_camids,
                          &cuhk03, &trapezoid, &seed, &threads)) {
        return NULL;
    }
    bool is_double = PyArray_Check(distmat_in)
                     && PyArray_TYPE((PyArrayObject *)distmat_in) == NPY_FLOAT64;
    PyArrayObject *distmat; /* owned */
    label_arrays arrays = {0};
    rc_rank_labels labels;
    rc_rank_result result;
    PyObject *out = NULL;
    if (is_double) { /* as they are: rounding to float32 would make ties */
        if (PyArray_NDIM((PyArrayObject *)distmat_in) != 2) {
            rc_error err;
            return rc_py_raise(rc_fail(&err, RC_ARGUMENT,
                                       "distmat: expected 2 dimensions, got %d",
                                       PyArray_NDIM((PyArrayObject *)distmat_in)), &err);
        }
        distmat = (PyArrayObject *)PyArray_FROM_OTF(
            distmat_in, NPY_FLOAT64,
            NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED);
    } else {
        distmat = rc_py_array_f32(distmat_in, "distmat", 2);
    }
    if (!distmat
        || !labels_get(q_pids, g_pids, q_camids, g_camids, PyArray_DIM(distmat, 0),
                       PyArray_DIM(distmat, 1), &arrays, &labels)) {
        goto done;
    }
    out = result_new(labels.queries, cuhk03, &result);
    if (!out) {
        goto done;
    }
    const void *rows = PyArray_DATA(distmat);
    rc_error err = {0};
    rc_status status;
    rc_rank *rank = NULL;
    Py_BEGIN_ALLOW_THREADS
    status = rc_rank_new(&labels, trapezoid, seed, threads, &rank, &err);
    if (status == RC_OK) {
        status = rc_rank_run(rank, rows, is_double, 0, labels.queries, &result, &err);
    }
    rc_rank_free(rank);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        Py_CLEAR(out);
    }
done:
    Py_XDECREF(distmat);
    labels_clear(&arrays);
    return out;
}

static PyObject *
rank_embeddings(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *query_in, *gallery_in, *q_pids, *g_pids, *q_camids, *g_camids;
    const char *name;
    int cuhk03, trapezoid, threads;
    unsigned long long seed;
    rc_metric metric;
    if (!PyArg_ParseTuple(args, "OOOOOOsppKi", &query_in, &gallery_in, &q_pids, &g_pids,
                          &q_camids, &g_camids, &name, &cuhk03, &trapezoid, &seed, &threads)
        || !metric_get(name, &metric)) {
        return NULL;
    }
    embeddings e = {0};
    label_arrays arrays = {0};
    rc_rank_labels labels;
    rc_rank_result result;
    PyObject *out = NULL;
    if (!embeddings_get(query_in, gallery_in, &e)
        || !labels_get(q_pids, g_pids, q_camids, g_camids, e.query.n, e.gallery.n, &arrays,
                       &labels)) {
        goto done;
    }
    out = result_new(labels.queries, cuhk03, &result);
    if (!out) {
        goto done;
    }
    rc_error err = {0};
    rc_status status;
    rc_rank *rank = NULL;
    distances d = {0};
    Py_BEGIN_ALLOW_THREADS
    status = rc_rank_new(&labels, trapezoid, seed, threads, &rank, &err);
    if (status == RC_OK) {
        status = distances_new(&e, metric, threads, &d, &err);
    }
    if (status == RC_OK) {
        status = d.there ? rc_device_rank(rank, d.there, &labels, &result, signals_stop, NULL, &err)
                         : rc_rank_stream(rank, d.here, &result, signals_stop, NULL, &err);
    }
    distances_free(&d);
    rc_rank_free(rank);
    Py_END_ALLOW_THREADS
    if (status != RC_OK) {
        rc_py_raise(status, &err);
        Py_CLEAR(out);
    }
done:
    embeddings_clear(&e);
    labels_clear(&arrays);
    return out;
}

/* The tuple of result_new back into pointers; borrowed. */
static bool
result_get(PyObject *tuple, rc_rank_result *result, int64_t *queries)
{
    static const int types[5] = {NPY_INT64, NPY_INT64, NPY_INT64, NPY_FLOAT64, NPY_FLOAT64};
    void *data[5] = {NULL};
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 5) {
        goto bad;
    }
    for (int i = 0; i < 5; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i); /* borrowed */
        if (i == 2 && item == Py_None) {
            continue;
        }
        if (!PyArray_Check(item)) {
            goto bad;
        }
        PyArrayObject *array = (PyArrayObject *)item;
        bool two = i == 2;
        if (PyArray_TYPE(array) != types[i] || !PyArray_ISCARRAY_RO(array)
            || PyArray_NDIM(array) != 1 + two) {
            goto bad;
        }
        if (i == 0) {
            *queries = PyArray_DIM(array, 0);
        }
        if (PyArray_DIM(array, 0) != *queries
            || (two && PyArray_DIM(array, 1) != RC_CUHK03_DRAWS)) {
            goto bad;
        }
        data[i] = PyArray_DATA(array);
    }
    *result = (rc_rank_result){data[0], data[1], data[2], data[3], data[4]};
    return true;
bad:
    PyErr_SetString(PyExc_TypeError, "result: expected what _rank_distmat returned");
    return false;
}

static PyObject *
rank_summary(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tuple;
    long long max_rank;
    rc_rank_result result;
    int64_t queries = 0, valid = 0;
    if (!PyArg_ParseTuple(args, "OL", &tuple, &max_rank) || !result_get(tuple, &result, &queries)) {
        return NULL;
    }
    rc_error err = {0};
    if (max_rank < 1) {
        return rc_py_raise(rc_fail(&err, RC_ARGUMENT, "max_rank: expected at least 1, got %lld",
                                   max_rank), &err);
    }
    npy_intp shape[1] = {max_rank};
    PyArrayObject *cmc = rc_py_new_array(1, shape, NPY_FLOAT32); /* new */
    if (!cmc) {
        return NULL;
    }
    double map, minp;
    rc_status status = rc_rank_summary(&result, queries, max_rank, PyArray_DATA(cmc), &map, &minp,
                                       &valid, &err);
    if (status != RC_OK) {
        Py_DECREF(cmc);
        return rc_py_raise(status, &err);
    }
    return Py_BuildValue("NddL", cmc, map, minp, (long long)valid); /* N steals cmc */
}

static PyObject *
rank_interval(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *tuple;
    const char *name;
    long long k, repeats;
    double level;
    unsigned long long seed;
    int threads;
    rc_rank_result result;
    int64_t queries = 0;
    if (!PyArg_ParseTuple(args, "OsLdLKi", &tuple, &name, &k, &level, &repeats, &seed, &threads)
        || !result_get(tuple, &result, &queries)) {
        return NULL;
    }
    rc_rank_metric metric = strcmp(name, "mAP") == 0    ? RC_RANK_MAP
                            : strcmp(name, "mINP") == 0 ? RC_RANK_MINP
                                                        : RC_RANK_CMC;
    double low = 0.0, high = 0.0;
    rc_error err = {0};
    rc_status status;
    Py_BEGIN_ALLOW_THREADS
    status = rc_rank_interval(&result, queries, metric, k, level, repeats, seed, threads, &low,
                              &high, &err);
    Py_END_ALLOW_THREADS
    return status == RC_OK ? Py_BuildValue("dd", low, high) : rc_py_raise(status, &err);
}

static PyObject *
color_histogram(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *images_in;
    int centre, threads;
    if (!PyArg_ParseTuple(args, "Opi", &images_in, &centre, &threads)) {
        return NULL;
    }
    PyArrayObject *images = rc_py_array_u8(images_in, "images", 4), *out = NULL; /* owned */
    rc_error err = {0};
    rc_status status = RC_OK;
    if (!images) {
        return NULL;
    }
    const npy_intp *shape = PyArray_DIMS(images);
    if (shape[3] != 3) {
        status = rc_fail(&err, RC_ARGUMENT,
                         "images: expected N x H x W x 3, got %lld x %lld x %lld x %lld",
                         (long long)shape[0], (long long)shape[1], (long long)shape[2],
                         (long long)shape[3]);
        goto done;
    }
    npy_intp out_shape[2] = {shape[0], RC_HISTOGRAM_BINS};
    out = rc_py_new_array(2, out_shape, NPY_FLOAT32);
    if (!out) {
        goto done;
    }
    const uint8_t *data = PyArray_DATA(images);
    float *result = PyArray_DATA(out);
    Py_BEGIN_ALLOW_THREADS
    status = rc_color_histogram(data, shape[0], shape[1], shape[2], centre, threads, result, &err);
    Py_END_ALLOW_THREADS
done:
    Py_DECREF(images);
    if (status != RC_OK) {
        Py_CLEAR(out);
        rc_py_raise(status, &err);
    }
    return (PyObject *)out;
}

static PyMethodDef methods[] = {
    {"_compute_distance_matrix", compute_distance_matrix, METH_VARARGS,
     "_compute_distance_matrix(query, gallery, metric, threads)"},
    {"_rank_distmat", rank_distmat, METH_VARARGS,
     "_rank_distmat(distmat, q_pids, g_pids, q_camids, g_camids, cuhk03, trapezoid, seed, "
     "threads) -> (hits, first, draws, ap, inp)"},
    {"_rank_embeddings", rank_embeddings, METH_VARARGS,
     "_rank_embeddings(query, gallery, q_pids, g_pids, q_camids, g_camids, metric, cuhk03, "
     "trapezoid, seed, threads) -> as _rank_distmat"},
    {"_rank_summary", rank_summary, METH_VARARGS,
     "_rank_summary(result, max_rank) -> (cmc, mAP, mINP, queries with a match)"},
    {"_rank_interval", rank_interval, METH_VARARGS,
     "_rank_interval(result, metric, k, level, repeats, seed, threads) -> (low, high)"},
    {"_color_histogram", color_histogram, METH_VARARGS,
     "_color_histogram(images, centre, threads)"},
    {NULL, NULL, 0, NULL},
};

int
rc_py_add_eval(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
