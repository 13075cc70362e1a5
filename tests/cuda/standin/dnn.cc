/* cuDNN of the stand-in (standin.h): the backend interface's descriptors, the graphs that it
 * supports, and convolutions in plain loops, sums in double.
 *
 * Supported is what cuDNN documents for float32 and bfloat16 of its convolution engines: a convolution pass
 * alone, or a forward with a bias, or with a residual and a bias, and a ReLU without a slope behind
 * it, of one group. A graph's engines are, in this order: one on tensor cores (TF32), one that is
 * not deterministic, one whose plan cannot be made, and two that work. */
#include "standin.h"

#include <string.h>

#include <map>
#include <vector>

namespace {

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool final = false;
    std::map<int, std::vector<char>> values;
    std::map<int, std::vector<descriptor *>> parts; /* borrowed */

    template <class T> T get(int name, T other = T()) const
    {
        auto at = values.find(name);
        if (at == values.end() || at->second.size() < sizeof(T)) {
            return other;
        }
        T v;
        memcpy(&v, at->second.data(), sizeof v);
        return v;
    }
    int64_t number(int name, int i) const
    {
        auto at = values.find(name);
        int64_t v = -1;
        if (at != values.end() && at->second.size() >= (size_t)(i + 1) * 8) {
            memcpy(&v, at->second.data() + 8 * i, 8);
        }
        return v;
    }
    descriptor *part(int name) const
    {
        auto at = parts.find(name);
        return at == parts.end() ? nullptr : at->second[0];
    }
};

descriptor *
behind(cudnnBackendDescriptor_t d)
{
    return static_cast<descriptor *>(d);
}

/* ---- what a plan holds, worked out when it is made ------------------------------------------------- */

struct plan {
    int pass = 0; /* 0 forward, 1 to the input, 2 to the weights */
    int64_t n, c, h, w, k, oh, ow, cg, kh, kw, stride, pad;
    int64_t x, weights, y; /* tensors' numbers */
    int64_t bias = 0, residual = 0;
    bool relu = false, half = false;
    int64_t workspace = 0;
};

std::map<descriptor *, plan> &
plans()
{
    static auto *it = new std::map<descriptor *, plan>;
    return *it;
}

bool
is_convolution(const descriptor *o)
{
    return o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
           || o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR
           || o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

int64_t
dim(const descriptor *t, int i)
{
    return t->number(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
}

int64_t
uid(const descriptor *t)
{
    return t->number(CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
}

bool
is_half(const descriptor *t)
{
    return t->get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_INT8)
           == CUDNN_DATA_BFLOAT16;
}

bool
is_virtual(const descriptor *t)
{
    return t->get<char>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
}

/* float32 or bfloat16, four dimensions, channels last, 16-byte addresses. */
bool
tensor_is_fine(const descriptor *t)
{
    int64_t expected[4] = {dim(t, 1) * dim(t, 2) * dim(t, 3), 1, dim(t, 3) * dim(t, 1), dim(t, 1)};
    cudnnDataType_t type =
        t->get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_INT8);
    bool fine = (type == CUDNN_DATA_FLOAT || (type == CUDNN_DATA_BFLOAT16 && !is_virtual(t)))
                && t->number(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0) == 16 && uid(t) > 0;
    for (int i = 0; i < 4; i++) {
        fine = fine && dim(t, i) > 0 && t->number(CUDNN_ATTR_TENSOR_STRIDES, i) == expected[i];
    }
    return fine;
}

bool
convolution_of(const descriptor *o, plan *p, const descriptor **end)
{
    static const int names[3][4] = {
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
    };
    p->pass = o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR         ? 0
              : o->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ? 1
                                                                                        : 2;
    const int *name = names[p->pass];
    const descriptor *conv = o->part(name[0]), *x = o->part(name[1]), *w = o->part(name[2]),
                     *y = o->part(name[3]);
    if (!conv || !x || !w || !y || !tensor_is_fine(x) || !tensor_is_fine(w) || !tensor_is_fine(y)) {
        standin::problem("cudnn: a convolution without its tensors, or not float32 or bfloat16 NHWC");
        return false;
    }
    p->n = dim(x, 0);
    p->c = dim(x, 1);
    p->h = dim(x, 2);
    p->w = dim(x, 3);
    p->k = dim(y, 1);
    p->oh = dim(y, 2);
    p->ow = dim(y, 3);
    p->cg = dim(w, 1);
    p->kh = dim(w, 2);
    p->kw = dim(w, 3);
    p->stride = conv->number(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 0);
    p->pad = conv->number(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0);
    p->x = uid(x);
    p->weights = uid(w);
    p->y = uid(y);
    *end = y;
    p->half = is_half(x);
    if (is_half(w) != p->half || (!is_virtual(y) && is_half(y) != p->half)) {
        standin::problem("cudnn: a convolution of two types");
        return false;
    }
    int64_t groups = p->cg ? p->c / p->cg : 0;
    bool fits = conv->get<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_INT8)
                    == CUDNN_DATA_FLOAT
                && conv->get<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                                                     CUDNN_CONVOLUTION) == CUDNN_CROSS_CORRELATION
                && conv->number(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0) == 2
                && conv->number(CUDNN_ATTR_CONVOLUTION_DILATIONS, 1) == 1
                && conv->number(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1) == p->stride
                && conv->number(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 1) == p->pad
                && dim(y, 0) == p->n && dim(w, 0) == p->k && p->stride > 0 && groups > 0
                && groups * p->cg == p->c && p->k % groups == 0
                && (p->h + 2 * p->pad - p->kh) / p->stride + 1 == p->oh
                && (p->w + 2 * p->pad - p->kw) / p->stride + 1 == p->ow;
    if (!fits) {
        standin::problem("cudnn: a convolution whose sizes do not fit each other");
    }
    return fits;
}

/* What stands behind the convolution; false: not supported. */
bool
pointwise_of(const descriptor *o, plan *p, const descriptor **end)
{
    const descriptor *what = o->part(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR),
                     *x = o->part(CUDNN_ATTR_OPERATION_POINTWISE_XDESC),
                     *b = o->part(CUDNN_ATTR_OPERATION_POINTWISE_BDESC),
                     *y = o->part(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    cudnnPointwiseMode_t mode =
        what ? what->get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE, CUDNN_POINTWISE_ADD)
             : CUDNN_POINTWISE_ADD;
    if (!what || x != *end || !y || !tensor_is_fine(y) || p->relu
        || !is_virtual(x)) {
        standin::problem("cudnn: a pointwise step that does not follow what is before it");
        return false;
    }
    *end = y;
    if ((!is_virtual(y) && is_half(y) != p->half) || (b && is_half(b) != p->half)) {
        standin::problem("cudnn: a pointwise step of two types");
        return false;
    }
    if (mode == CUDNN_POINTWISE_RELU_FWD) {
        p->relu = true;
        return what->get<double>(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE) == 0;
    }
    if (mode != CUDNN_POINTWISE_ADD || !b || !tensor_is_fine(b)) {
        return false;
    }
    if (dim(b, 0) == p->n && dim(b, 2) == p->oh && dim(b, 3) == p->ow && dim(b, 1) == p->k) {
        bool first = !p->residual && !p->bias;
        p->residual = uid(b);
        return first;
    }
    bool fits = dim(b, 0) == 1 && dim(b, 1) == p->k && dim(b, 2) == 1 && dim(b, 3) == 1;
    bool first = !p->bias;
    p->bias = uid(b);
    return fits && first;
}

bool
understand(const descriptor *graph, plan *p)
{
    auto ops = graph->parts.find(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const descriptor *end = nullptr;
    if (ops == graph->parts.end() || !is_convolution(ops->second[0])
        || !convolution_of(ops->second[0], p, &end)) {
        return false;
    }
    bool supported = true;
    for (size_t i = 1; i < ops->second.size(); i++) {
        supported = pointwise_of(ops->second[i], p, &end) && supported;
    }
    if (is_virtual(end)) {
        standin::problem("cudnn: a graph whose end is virtual");
    }
    if (p->pass == 0) {
        p->y = uid(end);
    }
    bool follow = ops->second.size() > 1;
    return supported && (!follow || (p->bias && p->cg == p->c));
}

/* ---- convolutions ----------------------------------------------------------------------------------------- */

struct arrays {
    standin::values x, w, y, bias, residual;
};

template <class F>
void
each_tap(const plan &p, F f) /* (y, k, x, w) for every product of the convolution */
{
    int64_t kg = p.k / (p.c / p.cg);
    for (int64_t n = 0; n < p.n; n++) {
        for (int64_t o = 0; o < p.oh * p.ow; o++) {
            int64_t oy = o / p.ow, ox = o % p.ow;
            for (int64_t k = 0; k < p.k; k++) {
                for (int64_t t = 0; t < p.kh * p.kw; t++) {
                    int64_t iy = oy * p.stride + t / p.kw - p.pad;
                    int64_t ix = ox * p.stride + t % p.kw - p.pad;
                    if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w) {
                        continue;
                    }
                    f(((n * p.oh + oy) * p.ow + ox) * p.k + k,
                      ((n * p.h + iy) * p.w + ix) * p.c + k / kg * p.cg,
                      (k * p.kh * p.kw + t) * p.cg);
                }
            }
        }
    }
}

void
convolve(const plan &p, const arrays &a)
{
    int64_t cg = p.cg;
    std::vector<double> sum;
    if (p.pass == 0) {
        sum.assign((size_t)(p.n * p.oh * p.ow * p.k), 0);
        each_tap(p, [&](int64_t y, int64_t x, int64_t w) {
            double v = 0;
            for (int64_t c = 0; c < cg; c++) {
                v += (double)a.x.get(x + c) * a.w.get(w + c);
            }
            sum[(size_t)y] += v;
        });
        for (size_t i = 0; i < sum.size(); i++) {
            int64_t at = (int64_t)i;
            double v = sum[i] + (a.residual.at ? a.residual.get(at) : 0)
                       + (a.bias.at ? a.bias.get(at % p.k) : 0);
            a.y.put(at, (float)(p.relu && v < 0 ? 0 : v));
        }
    } else if (p.pass == 1) {
        sum.assign((size_t)(p.n * p.h * p.w * p.c), 0);
        each_tap(p, [&](int64_t y, int64_t x, int64_t w) {
            for (int64_t c = 0; c < cg; c++) {
                sum[(size_t)(x + c)] += (double)a.y.get(y) * a.w.get(w + c);
            }
        });
        for (size_t i = 0; i < sum.size(); i++) {
            a.x.put((int64_t)i, (float)sum[i]);
        }
    } else {
        sum.assign((size_t)(p.k * p.kh * p.kw * cg), 0);
        each_tap(p, [&](int64_t y, int64_t x, int64_t w) {
            for (int64_t c = 0; c < cg; c++) {
                sum[(size_t)(w + c)] += (double)a.y.get(y) * a.x.get(x + c);
            }
        });
        for (size_t i = 0; i < sum.size(); i++) {
            a.w.put((int64_t)i, (float)sum[i]);
        }
    }
}

/* The plan on these addresses, once the stream comes to it. */
void
run(const plan &p, std::map<int64_t, void *> at, void *workspace)
{
    auto find = [&](int64_t number, int64_t elements, const char *what) {
        auto it = at.find(number);
        standin::values none = {nullptr, false};
        if (!number) {
            return none;
        }
        if (it == at.end() || reinterpret_cast<uintptr_t>(it->second) % 16) {
            standin::problem("cudnn: %s is not given, or not at a multiple of 16", what);
            return none;
        }
        return standin::covers(it->second, (p.half ? 2 : 4) * elements, what)
                   ? standin::values{it->second, p.half} : none;
    };
    int64_t outputs = p.n * p.oh * p.ow * p.k;
    arrays a = {find(p.x, p.n * p.h * p.w * p.c, "cudnn: x"),
                find(p.weights, p.k * p.kh * p.kw * p.cg, "cudnn: weights"),
                find(p.y, outputs, "cudnn: y"), find(p.bias, p.k, "cudnn: bias"),
                find(p.residual, outputs, "cudnn: residual")};
    if (p.workspace && standin::covers(workspace, p.workspace, "cudnn: workspace")) {
        memset(workspace, 0xff, (size_t)p.workspace);
    }
    if (at.size() != 3u + (p.bias > 0) + (p.residual > 0)) {
        standin::problem("cudnn: %zu addresses for a graph", at.size());
    }
    if (a.x.at && a.w.at && a.y.at && (a.bias.at || !p.bias) && (a.residual.at || !p.residual)) {
        convolve(p, a);
    }
}

} // namespace

#define CALL(...)                                           \
    if (int code_ = standin::call(__func__, __VA_ARGS__)) { \
        return static_cast<cudnnStatus_t>(code_);           \
    }

size_t
cudnnGetVersion(void)
{
    return 91000;
}

const char *
cudnnGetErrorString(cudnnStatus_t)
{
    return "an error of the stand-in";
}

void
cudnnGetLastErrorString(char *message, size_t)
{
    message[0] = 0;
}

cudnnStatus_t
cudnnCreate(cudnnHandle_t *out)
{
    CALL("");
    *out = reinterpret_cast<cudnnHandle_t>(new int);
    standin::count("handles", 1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnDestroy(cudnnHandle_t handle)
{
    CALL("");
    delete reinterpret_cast<int *>(handle);
    standin::count("handles", -1);
    return CUDNN_STATUS_SUCCESS;
}

static std::map<cudnnHandle_t, cudaStream_t> streams;

cudnnStatus_t
cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    CALL("");
    streams[handle] = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out)
{
    auto *d = new descriptor;
    d->type = type;
    *out = d;
    standin::count("descriptors", 1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    plans().erase(behind(d));
    delete behind(d);
    standin::count("descriptors", -1);
    return CUDNN_STATUS_SUCCESS;
}

static size_t
size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return 8;
    case CUDNN_TYPE_BOOLEAN:
        return 1;
    default:
        return 4;
    }
}

cudnnStatus_t
cudnnBackendSetAttribute(cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    descriptor *d = behind(desc);
    if (d->final) {
        standin::problem("cudnn: an attribute after the end (%d)", (int)name);
        return CUDNN_STATUS_BAD_PARAM;
    }
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        auto *const *given = static_cast<descriptor *const *>(values);
        for (int64_t i = 0; i < count; i++) {
            if (!given[i] || (!given[i]->final && given[i]->type
                              != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)) {
                standin::problem("cudnn: a part that is not finished (%d)", (int)name);
                return CUDNN_STATUS_BAD_PARAM;
            }
        }
        d->parts[name].assign(given, given + count);
        return CUDNN_STATUS_SUCCESS;
    }
    const char *bytes = static_cast<const char *>(values);
    d->values[name].assign(bytes, bytes + (size_t)count * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

/* Numbers of engines: configurations carry theirs as a value of their own. */
enum { TENSOR_CORE, UNSTEADY, BROKEN, PLAIN, SLOW, ENGINES };

cudnnStatus_t
cudnnBackendFinalize(cudnnBackendDescriptor_t desc)
{
    descriptor *d = behind(desc);
    if (d->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) {
        CALL("graph");
        plan p;
        if (!understand(d, &p)) {
            return CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
        }
        plans()[d] = p;
    } else if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        descriptor *config = d->part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        CALL("plan of engine %lld", config ? (long long)config->number(-1, 0) : -1LL);
        if (!config || config->number(-1, 0) == BROKEN) {
            return CUDNN_STATUS_NOT_SUPPORTED;
        }
        plan p = plans()[config->part(-2)];
        p.workspace = config->number(-1, 0) == PLAIN ? p.n * 1000 : 0;
        plans()[d] = p;
    }
    d->final = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t
cudnnBackendGetAttribute(cudnnBackendDescriptor_t const desc, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t, int64_t wanted, int64_t *got, void *out)
{
    descriptor *d = behind(desc);
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        auto **configs = static_cast<descriptor **>(out);
        bool fallback = d->get<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE,
                                                       CUDNN_HEUR_MODE_A) != CUDNN_HEUR_MODE_A;
        int first = fallback ? SLOW : TENSOR_CORE, n = 0;
        for (int64_t engine = first; engine < ENGINES && n < wanted; engine++, n++) {
            configs[n]->values[-1].assign((char *)&engine, (char *)(&engine + 1));
            configs[n]->parts[-2] = {d->part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)};
        }
        *got = n;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        (*static_cast<descriptor **>(out))->values[-1] = d->values[-1];
        *got = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        auto *notes = static_cast<cudnnBackendNumericalNote_t *>(out);
        int64_t engine = d->number(-1, 0);
        notes[0] = engine == TENSOR_CORE ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE
                                         : CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
        *got = engine <= UNSTEADY;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        memcpy(out, &plans()[d].workspace, 8);
        *got = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    standin::problem("cudnn: an attribute that the stand-in does not know (%d)", (int)name);
    return CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t
cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t p,
                    cudnnBackendDescriptor_t pack)
{
    plan what = plans()[behind(p)];
    CALL("pass %d of %lldx%lldx%lldx%lld by %lld%s", what.pass, (long long)what.n,
         (long long)what.c, (long long)what.h, (long long)what.w, (long long)what.k,
         what.bias || what.residual || what.relu ? " fused" : "");
    descriptor *d = behind(pack);
    const auto &pointers = d->values[CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS];
    std::map<int64_t, void *> at;
    for (size_t i = 0; i < pointers.size() / 8; i++) {
        void *address;
        memcpy(&address, pointers.data() + 8 * i, 8);
        at[d->number(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, (int)i)] = address;
    }
    void *workspace = d->get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    standin::enqueue(streams[handle], [=]() { run(what, at, workspace); });
    return CUDNN_STATUS_SUCCESS;
}
