/* From ranges of values over some images to how each is stored as bytes (m->bytes, m->in_bytes).
 *
 * Convolutions compute with bytes where it pays and where it costs little: where their result has
 * LEAST_CHANNELS channels or more (fewer are attention maps) at LEAST_POSITIONS positions or more
 * (fewer are heads and embeddings), where each input byte meets LEAST_PRODUCTS weights or more (else
 * the cast costs as much), and where the layer's own error, measured on the images with exact
 * inputs, is within the limit given. Products of attention, linear layers, softmax, pooling of heads
 * and embeddings stay in float32. */
#include <math.h>
#include <string.h>

#include "cpu/cast.h"
#include "plan/plan.h"

#define LEAST_CHANNELS 8
#define LEAST_POSITIONS 8
#define LEAST_PRODUCTS 16
#define CHUNK 8            /* images at once */
#define BINS 4096          /* of a histogram */
#define CLIPS 64           /* ranges that the squared error is compared over */

typedef struct range {
    bool wanted;
    rc_value like;      /* whose bytes it shares: its own, or those of what it passes on */
    float low, high;
    int64_t *bins;      /* [BINS] over low..high */
} range;

typedef struct survey {
    rc_model *m;
    rc_plan *p;         /* exact */
    const rc_images *images;
    const rc_quantize_options *options;
    const rc_poll *poll;
    double asked;
    range *ranges;      /* per value */
    bool *chosen;       /* per unit: a convolution that may compute with bytes */
    double *wrong, *size; /* per unit: sums of squares of its error and of its result */
    rc_bytes *bytes;    /* per value: what is found */
    bool *in_bytes;
} survey;

static rc_value
root(const survey *s, rc_value v)
{
    while (s->ranges[v].like != v) {
        v = s->ranges[v].like;
    }
    return v;
}

/* ---- which ------------------------------------------------------------------------------------- */

static bool
pays(const rc_model *m, const rc_plan *p, const rc_unit *u)
{
    const rc_node *node = &u->node;
    if (node->op != RC_OP_conv2d || m->graph->values[node->in[0]].kind == RC_VALUE_STATE) {
        return false;
    }
    rc_shape xs[2] = {p->shapes[node->in[0]], p->shapes[node->in[1]]};
    rc_conv_shape s = rc_conv_shape_of(&node->attrs, xs, &p->shapes[node->out]);
    return !rc_int8_conv_refuse(&s) && s.k >= LEAST_CHANNELS && s.oh * s.ow >= LEAST_POSITIONS
           && s.k * s.kh * s.kw >= LEAST_PRODUCTS * s.stride * s.stride;
}

static void
want(survey *s, rc_value v)
{
    if (v != RC_NONE) {
        s->ranges[root(s, v)].wanted = true;
    }
}

static void
choose(survey *s)
{
    const rc_graph *g = s->m->graph;
    for (rc_value v = 0; v < g->n_values; v++) {
        s->ranges[v] = (range){.like = v, .low = 0, .high = 0};
    }
    for (int32_t i = 0; i < s->p->n_units; i++) {
        const rc_unit *u = &s->p->units[i];
        const rc_node *node = &u->node;
        s->chosen[i] = pays(s->m, s->p, u);
        s->in_bytes[node->out] = s->chosen[i];
        if (rc_unit_passes_on(g, s->p, u)) {
            s->ranges[node->out].like = node->in[0];
            s->in_bytes[node->out] = s->in_bytes[node->in[0]];
        } else if (node->op == RC_OP_max_pool2d && s->in_bytes[node->in[0]]) {
            s->ranges[node->out].like = node->in[0]; /* and it takes the largest byte */
            s->in_bytes[node->out] = true;
        } else if (s->chosen[i]) {
            want(s, node->in[0]);
            want(s, node->n_in > 3 ? node->in[3] : RC_NONE);
            want(s, node->out);
        }
    }
}

/* ---- passes over the images ------------------------------------------------------------------ */

typedef void (*visit)(survey *s, rc_value v, const float *x, int64_t count);

static rc_status
run_units(survey *s, visit see, rc_status (*after)(survey *s, const rc_step *step, rc_error *err),
          rc_error *err)
{
    for (int32_t i = 0; i < s->p->n_steps; i++) {
        const rc_step *step = &s->p->steps[i];
        RC_TRY(rc_run_steps(s->m, s->p, i, i + 1, NULL, err));
        if (rc_asked_to_stop(s->poll, &s->asked)) {
            return RC_INTERRUPTED;
        }
        if (step->pass != RC_PASS_FORWARD || step->unit < 0) {
            continue;
        }
        rc_value out = s->p->units[step->unit].node.out;
        if (see && s->ranges[out].wanted) {
            see(s, out, step->call.y, rc_shape_count(&step->call.ys));
        }
        if (after && s->chosen[step->unit]) {
            RC_TRY(after(s, step, err));
        }
    }
    return RC_OK;
}

static rc_status
sweep(survey *s, visit see, rc_status (*after)(survey *s, const rc_step *step, rc_error *err),
      rc_error *err)
{
    int64_t n = s->images->n, size = s->p->spec.n;
    for (int64_t from = 0; from < n; from += size) {
        int64_t first = from + size <= n ? from : n - size; /* the last chunk is a whole one, too */
        RC_TRY(rc_load_images(s->m, s->p, s->images, first, size, false, err));
        rc_value images = s->m->graph->images;
        if (see && s->ranges[images].wanted) {
            see(s, images, rc_plan_value(s->p, images), rc_shape_count(&s->p->shapes[images]));
        }
        RC_TRY(run_units(s, see, after, err));
    }
    return RC_OK;
}

static void
see_range(survey *s, rc_value v, const float *x, int64_t count)
{
    float low = s->ranges[v].low, high = s->ranges[v].high;
    float odd = 0; /* NaN as soon as a value is not finite */
    for (int64_t i = 0; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        odd += x[i] - x[i];
    }
    high = odd == 0 ? high : NAN;
    s->ranges[v].low = low;
    s->ranges[v].high = high;
}

static void
see_bins(survey *s, rc_value v, const float *x, int64_t count)
{
    const range *r = &s->ranges[v];
    float scale = r->high > r->low ? BINS / (r->high - r->low) : 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t bin = (int32_t)((x[i] - r->low) * scale);
        r->bins[bin < 0 ? 0 : bin < BINS ? bin : BINS - 1]++;
    }
}

/* ---- how --------------------------------------------------------------------------------------- */

/* 0 is a byte of its own. */
static rc_bytes
bytes_for(double low, double high)
{
    low = low < 0 ? low : 0;
    high = high > 0 ? high : 0;
    double step = (high - low) / 255;
    if (!(step >= 1e-30 && step <= 1e30)) {
        return (rc_bytes){1, 0}; /* nothing but zeros */
    }
    double zero = rint(-low / step);
    return (rc_bytes){(float)step, (int32_t)(zero < 0 ? 0 : zero > 255 ? 255 : zero)};
}

/* What a share of `part` of the values lies beyond, at the lower and at the upper end. */
static void
by_percentile(const range *r, double part, double *low, double *high)
{
    double width = ((double)r->high - r->low) / BINS;
    int64_t total = 0, beyond = 0;
    for (int i = 0; i < BINS; i++) {
        total += r->bins[i];
    }
    double allowed = part * (double)total;
    int i = BINS;
    while (i > 0 && (double)(beyond + r->bins[i - 1]) <= allowed) {
        beyond += r->bins[--i];
    }
    *high = r->low + width * i;
    beyond = 0;
    for (i = 0; i < BINS && (double)(beyond + r->bins[i]) <= allowed; i++) {
        beyond += r->bins[i];
    }
    *low = r->low + width * i;
}

static double
squared_error(const range *r, rc_bytes b)
{
    double width = ((double)r->high - r->low) / BINS, sum = 0;
    for (int i = 0; i < BINS; i++) {
        if (r->bins[i]) {
            double x = r->low + width * (i + 0.5), q = rint(x / b.step) + b.zero;
            q = q < 0 ? 0 : q > 255 ? 255 : q;
            double inside = q > 0 && q < 255 ? b.step * b.step / 12 : 0; /* a bin may be wider */
            double e = x - b.step * (q - b.zero), square = e * e;
            sum += (double)r->bins[i] * (square > inside ? square : inside);
        }
    }
    return sum;
}

static rc_bytes
by_squares(const range *r)
{
    rc_bytes best = bytes_for(r->low, r->high);
    double least = squared_error(r, best);
    for (int i = 1; i < CLIPS; i++) {
        double part = 1 - 0.9 * i / CLIPS;
        rc_bytes b = bytes_for(r->low * part, r->high * part);
        double error = squared_error(r, b);
        if (error < least) {
            least = error;
            best = b;
        }
    }
    return best;
}

static rc_status
find_bytes(survey *s, rc_error *err)
{
    const rc_graph *g = s->m->graph;
    for (rc_value v = 0; v < g->n_values; v++) {
        const range *r = &s->ranges[v];
        if (!r->wanted) {
            continue;
        }
        if (!isfinite(r->low) || !isfinite(r->high)) {
            char name[RC_NAME] = "";
            (void)rc_graph_value_name(g, v, name);
            return rc_fail(err, RC_ARGUMENT,
                           "images: with them '%s' is not finite (weights or images are not)", name);
        }
        double low, high;
        if (s->options->method == RC_QUANTIZE_MSE) {
            s->bytes[v] = by_squares(r);
        } else {
            by_percentile(r, 1 - s->options->percentile / 100, &low, &high);
            s->bytes[v] = bytes_for(low, high);
        }
    }
    for (rc_value v = 0; v < g->n_values; v++) {
        s->bytes[v] = s->bytes[root(s, v)];
    }
    return RC_OK;
}

/* ---- each layer's own error -------------------------------------------------------------------- */

static uint8_t *
as_bytes(const rc_model *m, const float *x, const rc_shape *shape, rc_bytes b)
{
    uint8_t *y = rc_alloc(rc_shape_count(shape), 1);
    if (y) {
        rc_call call = {.n_in = 1, .x = {x}, .y = y, .ys = *shape, .threads = m->info.threads,
                        .extra = &b};
        rc_cast_bytes_get()->to(&call);
    }
    return y;
}

/* The unit once more with bytes in the place of its exact input, compared with its exact result. */
static rc_status
measure(survey *s, const rc_step *step, rc_error *err)
{
    rc_model *m = s->m;
    const rc_unit *u = &s->p->units[step->unit];
    const rc_node *node = &u->node;
    bool residual = node->n_in > 3 && node->in[3] != RC_NONE;
    rc_bytes *kept = m->bytes;
    m->bytes = s->bytes;
    rc_step again = *step;
    again.conv = rc_int8_conv(m, s->p, u, true);
    m->bytes = kept;
    rc_packed packed = {.weight = node->in[1],
                        .bias = node->n_in > 2 ? node->in[2] : RC_NONE,
                        .norm_eps = u->norm_eps,
                        .conv = again.conv};
    memcpy(packed.norm, u->norm, sizeof packed.norm);
    packed.data = rc_alloc(rc_packed_floats(&packed), sizeof(float));
    int64_t scratch = rc_int8_conv_scratch_size(rc_isa_get(), &again.conv.shape, m->info.threads);
    int64_t count = rc_shape_count(&step->call.ys);
    float *y = rc_alloc(count, sizeof *y);
    uint8_t *tmp = rc_alloc(scratch + 1, 1);
    uint8_t *x = as_bytes(m, step->call.x[0], &s->p->shapes[node->in[0]], again.conv.x);
    uint8_t *r = residual ? as_bytes(m, step->call.x[3], &step->call.ys, again.conv.residual) : NULL;
    rc_status status = RC_OK;
    if (packed.data && y && tmp && x && (r || !residual)) {
        rc_packed_make(m, &packed);
        again.call.x[0] = x;
        again.call.x[1] = packed.data;
        again.call.x[3] = r;
        again.call.y = y;
        again.call.tmp = tmp;
        again.call.extra = &again.conv;
        rc_int8_conv_call(&again.call);
        const float *exact = step->call.y;
        for (int64_t i = 0; i < count; i++) {
            double e = (double)y[i] - exact[i];
            s->wrong[step->unit] += e * e;
            s->size[step->unit] += (double)exact[i] * exact[i];
        }
    } else {
        status = rc_fail(err, RC_MEMORY, "quantize: out of memory");
    }
    rc_free(packed.data);
    rc_free(y);
    rc_free(tmp);
    rc_free(x);
    rc_free(r);
    return status;
}

static double
own_error(const survey *s, int32_t unit)
{
    return s->size[unit] > 0 ? sqrt(s->wrong[unit] / s->size[unit]) : 0;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void
keep_exact(survey *s)
{
    for (int32_t i = 0; i < s->p->n_units; i++) {
        if (s->chosen[i] && !(own_error(s, i) <= s->options->limit)) {
            s->in_bytes[s->p->units[i].node.out] = false;
        }
    }
    for (int32_t i = 0; i < s->p->n_units; i++) { /* what passes bytes on has none to pass on */
        rc_value out = s->p->units[i].node.out, like = s->ranges[out].like;
        s->in_bytes[out] = s->in_bytes[out] && s->in_bytes[like];
    }
}

static rc_status
report(const survey *s, rc_quantized *out, rc_error *err)
{
    int n = 0;
    out->layers = rc_alloc_zero(s->p->n_units + 1, sizeof *out->layers);
    if (!out->layers) {
        return rc_fail(err, RC_MEMORY, "quantize: out of memory");
    }
    for (int32_t i = 0; i < s->p->n_units; i++) {
        const rc_unit *u = &s->p->units[i];
        if (u->node.op != RC_OP_conv2d) {
            continue;
        }
        rc_quantized_layer *l = &out->layers[n++];
        rc_bytes b = s->bytes[u->node.in[0]];
        (void)rc_graph_value_name(s->m->graph, u->node.in[1], l->name);
        l->in_bytes = s->in_bytes[u->node.out] && s->chosen[i];
        l->measured = s->chosen[i];
        if (s->chosen[i]) {
            l->step = b.step;
            l->low = -(double)b.step * b.zero;
            l->high = (double)b.step * (255 - b.zero);
            l->error = own_error(s, i);
        }
    }
    out->n = n;
    return RC_OK;
}

static rc_status
quantize(survey *s, rc_quantized *out, rc_error *err)
{
    rc_model *m = s->m;
    const rc_graph *g = m->graph;
    rc_plan_spec spec = {.kind = RC_PLAN_EVAL, .exact = true,
                         .n = s->images->n < CHUNK ? s->images->n : CHUNK};
    RC_TRY(rc_model_plan(m, &spec, &s->p, err));
    s->chosen = rc_alloc_zero(s->p->n_units, sizeof *s->chosen);
    s->wrong = rc_alloc_zero(2 * (int64_t)s->p->n_units, sizeof *s->wrong);
    s->ranges = rc_alloc_zero(g->n_values, sizeof *s->ranges);
    s->bytes = rc_alloc_zero(g->n_values, sizeof *s->bytes);
    s->in_bytes = rc_alloc_zero(g->n_values, sizeof *s->in_bytes);
    if (!s->chosen || !s->wrong || !s->ranges || !s->bytes || !s->in_bytes) {
        return rc_fail(err, RC_MEMORY, "quantize: out of memory");
    }
    s->size = s->wrong + s->p->n_units;
    choose(s);
    RC_TRY(rc_plan_ready(m, s->p, err));
    RC_TRY(sweep(s, see_range, NULL, err));
    for (rc_value v = 0; v < g->n_values; v++) {
        range *r = &s->ranges[v];
        if (r->wanted && !(r->bins = rc_alloc_zero(BINS, sizeof *r->bins))) {
            return rc_fail(err, RC_MEMORY, "quantize: out of memory");
        }
    }
    RC_TRY(sweep(s, see_bins, NULL, err));
    RC_TRY(find_bytes(s, err));
    RC_TRY(sweep(s, NULL, measure, err));
    keep_exact(s);
    RC_TRY(report(s, out, err));
    rc_free(m->bytes);
    rc_free(m->in_bytes);
    m->bytes = s->bytes;
    m->in_bytes = s->in_bytes;
    s->bytes = NULL;
    s->in_bytes = NULL;
    m->compute = RC_U8;
    m->info.precision = "int8";
    return RC_OK;
}

static rc_status
check(const rc_model *m, const rc_images *images, const rc_quantize_options *o, rc_error *err)
{
    if (m->real_size != sizeof(float)) {
        return rc_fail(err, RC_ARGUMENT, "quantize: expected a network of 'float32', this one is of "
                                         "'float64', which is for comparisons");
    }
    if (m->on) {
        return rc_fail(err, RC_UNSUPPORTED, "quantize: int8 runs on the CPU alone; call "
                                            "to('cpu') first");
    }
    if (o->method == RC_QUANTIZE_PERCENTILE && !(o->percentile > 50 && o->percentile <= 100)) {
        return rc_fail(err, RC_ARGUMENT, "percentile: expected more than 50, at most 100, got %g",
                       o->percentile);
    }
    if (!(o->limit > 0)) {
        return rc_fail(err, RC_ARGUMENT, "limit: expected a number above 0, got %g", o->limit);
    }
    return rc_check_images(m, images, false, err);
}

rc_status
rc_model_quantize(rc_model *m, const rc_images *images, const rc_quantize_options *options,
                  rc_quantized *out, const rc_poll *poll, rc_error *err)
{
    *out = (rc_quantized){NULL, 0};
    rc_model_lock(m);
    survey s = {.m = m, .images = images, .options = options, .poll = poll,
                .asked = rc_seconds()};
    rc_status status = check(m, images, options, err);
    if (status == RC_OK) {
        status = quantize(&s, out, err);
        for (rc_value v = 0; s.ranges && v < m->graph->n_values; v++) {
            rc_free(s.ranges[v].bins);
        }
        rc_free(s.chosen);
        rc_free(s.wrong);
        rc_free(s.ranges);
        rc_free(s.bytes);
        rc_free(s.in_bytes);
        rc_model_drop_plans(m); /* also those of what it computed in before */
    }
    if (status != RC_OK) {
        rc_free(out->layers);
        *out = (rc_quantized){NULL, 0};
    }
    rc_model_unlock(m);
    return status;
}

/* ---- what a checkpoint carries --------------------------------------------------------------------- */

bool
rc_model_stored(const rc_model *m, int value, rc_stored_value *out)
{
    if (!m->bytes || value < 0 || value >= m->graph->n_values || !(m->bytes[value].step > 0)) {
        return false;
    }
    out->value = value;
    out->step = m->bytes[value].step;
    out->zero = m->bytes[value].zero;
    out->in_bytes = m->in_bytes[value];
    return true;
}

/* In the place of what was there: nothing known of any value. */
static rc_status
new_stored(rc_model *m, rc_error *err)
{
    const int32_t n = m->graph->n_values;
    rc_bytes *bytes = rc_alloc_zero(n, sizeof *bytes);
    bool *in_bytes = rc_alloc_zero(n, sizeof *in_bytes);
    if (!bytes || !in_bytes) {
        rc_free(bytes);
        rc_free(in_bytes);
        return rc_fail(err, RC_MEMORY, "int8: out of memory");
    }
    rc_free(m->bytes);
    rc_free(m->in_bytes);
    m->bytes = bytes;
    m->in_bytes = in_bytes;
    return RC_OK;
}

rc_status
rc_model_set_stored(rc_model *m, const rc_stored_value *values, int n, rc_error *err)
{
    const int32_t count = m->graph->n_values;
    if (m->compute != RC_U8) {
        return rc_fail(err, RC_ARGUMENT, "int8: the network's precision is '%s'", m->info.precision);
    }
    for (int i = 0; i < n; i++) {
        const rc_stored_value *v = &values[i];
        if (v->value < 0 || v->value >= count || !(v->step > 0 && isfinite(v->step)) || v->zero < 0
            || v->zero > 255) {
            return rc_fail(err, RC_ARGUMENT, "int8: entry %d does not fit this network", i);
        }
    }
    rc_model_lock(m);
    rc_status status = new_stored(m, err);
    for (int i = 0; status == RC_OK && i < n; i++) {
        m->bytes[values[i].value] = (rc_bytes){values[i].step, values[i].zero};
        m->in_bytes[values[i].value] = values[i].in_bytes;
    }
    rc_model_drop_plans(m);
    rc_model_unlock(m);
    return status;
}

rc_status
rc_model_stored_like(rc_model *m, const rc_model *other, rc_error *err)
{
    if (!other->bytes) {
        return RC_OK;
    }
    RC_TRY(new_stored(m, err));
    memcpy(m->bytes, other->bytes, (size_t)m->graph->n_values * sizeof *m->bytes);
    memcpy(m->in_bytes, other->in_bytes, (size_t)m->graph->n_values * sizeof *m->in_bytes);
    return RC_OK;
}
