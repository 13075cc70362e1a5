/* Models end to end without Python: build, embed, train, and every allocation that can fail. */
#include "check.h"
#include "reidc.h"

#define N 4

static const rc_setting small_mbgn[] = {
    {.name = "num_classes", .kind = RC_SETTING_INT, .i = 5},
    {.name = "height", .kind = RC_SETTING_INT, .i = 96},
    {.name = "width", .kind = RC_SETTING_INT, .i = 32},
    {.name = "backbone", .kind = RC_SETTING_TEXT, .s = "resnet18"},
    {.name = "width_multiplier", .kind = RC_SETTING_REAL, .r = 0.25},
    {.name = "threads", .kind = RC_SETTING_INT, .i = 2},
    {.name = "seed", .kind = RC_SETTING_INT, .i = 3},
};

static const rc_setting small_baseline[] = {
    {.name = "num_classes", .kind = RC_SETTING_INT, .i = 5},
    {.name = "height", .kind = RC_SETTING_INT, .i = 32},
    {.name = "width", .kind = RC_SETTING_INT, .i = 16},
    {.name = "backbone", .kind = RC_SETTING_TEXT, .s = "resnet50_ibn_a"},
    {.name = "width_multiplier", .kind = RC_SETTING_REAL, .r = 0.125},
    {.name = "center", .kind = RC_SETTING_BOOL, .i = 1},
    {.name = "threads", .kind = RC_SETTING_INT, .i = 2},
};

typedef struct batch {
    uint8_t pixels[N * 96 * 32 * 3];
    int64_t labels[N];
    rc_images images;
} batch;

static void
fill(batch *b, int64_t h, int64_t w)
{
    for (int64_t i = 0; i < N * h * w * 3; i++) {
        b->pixels[i] = (uint8_t)rc_random(1, 2, 3, 4, 5, (uint64_t)i);
    }
    for (int i = 0; i < N; i++) {
        b->labels[i] = i / 2;
    }
    b->images = (rc_images){b->pixels, true, N, 3, h, w};
}

/* One model's life; every step may fail and must then leave nothing behind. */
static rc_status
live(const char *system, const rc_setting *settings, int n, const batch *b, double *total,
     float *embedding, rc_error *err)
{
    rc_model *m = NULL;
    rc_optimizer *o = NULL;
    rc_ema *ema = NULL;
    static const char *const frozen[] = {"backbone.layer1.*", "backbone.bn1.*"};
    rc_optimizer_config adam = {.kind = RC_OPT_ADAM, .lr = 1e-3, .weight_decay = 5e-4,
                                .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip_norm = 1};
    double parts[8] = {0};
    rc_status status = rc_model_new(system, settings, n, &m, err);
    if (status == RC_OK) {
        status = rc_optimizer_new(m, &adam, NULL, 0, &o, err);
    }
    if (status == RC_OK) {
        status = rc_ema_new(m, 0.9, &ema, err);
    }
    for (int step = 0; status == RC_OK && step < 2; step++) { /* the first with frozen layers */
        status = rc_model_freeze(m, frozen, step == 0 ? 2 : 0, err);
        if (status == RC_OK) {
            status = rc_model_train_step(m, &b->images, b->labels, NULL, o, ema, parts, NULL, err);
        }
    }
    if (status == RC_OK) {
        *total = parts[rc_model_loss_count(m) - 1];
        rc_ema_swap(ema); /* the average is what is embedded */
        status = rc_model_embed(m, &b->images, true, true, 3, embedding, NULL, err);
    }
    rc_ema_free(ema);
    rc_optimizer_free(o);
    rc_model_free(m);
    return status;
}

static void
test_life(const char *system, const rc_setting *settings, int n, int64_t h, int64_t w)
{
    static batch b;
    static float first[N * 2304], again[N * 2304];
    rc_error err = {0};
    double total = 0, total_again = 0;
    fill(&b, h, w);
    int64_t before = rc_memory_live();
    CHECK(live(system, settings, n, &b, &total, first, &err) == RC_OK);
    CHECK(total > 0 && total < 1000);
    CHECK(live(system, settings, n, &b, &total_again, again, &err) == RC_OK);
    CHECK(total == total_again && !memcmp(first, again, sizeof first));
    CHECK(rc_memory_live() == before);
}

/* The n-th allocation fails, for all n up to `most` (in growing steps) until one life succeeds. */
static void
test_failing_memory(const char *system, const rc_setting *settings, int n, int64_t h, int64_t w)
{
    static batch b;
    static float out[N * 2304];
    fill(&b, h, w);
    int64_t before = rc_memory_live();
    rc_status status = RC_MEMORY;
    int refused = 0;
    for (int64_t after = 0; status != RC_OK && after < 100000; after += 1 + after / 24) {
        rc_error err = {0};
        double total;
        rc_memory_fail_after(after);
        status = live(system, settings, n, &b, &total, out, &err);
        rc_memory_fail_after(-1);
        refused += status == RC_MEMORY;
        CHECK(status == RC_OK || (status == RC_MEMORY && err.text[0]));
        CHECK(rc_memory_live() == before);
    }
    CHECK(status == RC_OK && refused > 20);
}

static void
test_refusals(void)
{
    static batch b;
    rc_error err = {0};
    rc_model *m = NULL;
    double parts[8];
    fill(&b, 32, 16);
    int n = (int)(sizeof small_baseline / sizeof small_baseline[0]);
    CHECK(rc_model_new("nothing", small_baseline, n, &m, &err) == RC_ARGUMENT);
    rc_setting odd = {.name = "heigth", .kind = RC_SETTING_INT, .i = 32};
    CHECK(rc_model_new("baseline", &odd, 1, &m, &err) == RC_TYPE && strstr(err.text, "'height'"));
    CHECK(rc_model_new("baseline", small_baseline, n, &m, &err) == RC_OK);
    b.labels[1] = 5;
    CHECK(rc_model_loss(m, &b.images, b.labels, NULL, parts, NULL, &err) == RC_ARGUMENT);
    memset(b.labels, 0, sizeof b.labels);
    CHECK(rc_model_loss(m, &b.images, b.labels, NULL, parts, NULL, &err) == RC_ARGUMENT);
    CHECK(rc_model_backward(m, NULL, NULL, NULL, &err) == RC_ARGUMENT);
    rc_images floats = {b.pixels, false, 1, 3, 32, 17};
    CHECK(rc_model_embed(m, &floats, false, false, 0, parts, NULL, &err) == RC_ARGUMENT);
    rc_model_free(m);
}

int
main(void)
{
    int n_mbgn = (int)(sizeof small_mbgn / sizeof small_mbgn[0]);
    int n_baseline = (int)(sizeof small_baseline / sizeof small_baseline[0]);
    test_life("mbgn", small_mbgn, n_mbgn, 96, 32);
    test_life("baseline", small_baseline, n_baseline, 32, 16);
    test_failing_memory("baseline", small_baseline, n_baseline, 32, 16);
    test_refusals();
    return REPORT();
}
