/* What is fixed about a person: the identity table of the synthetic set page, section 3.
 *
 * Each parameter has its own slot, numbered in the order of the table, whether it is used or
 * not, so that adding one (at the end) never moves another. Garments, the two main colours
 * and sex (slots 0..12) may come from the family of four consecutive identities. */
#include "synth/synth_impl.h"

enum { COLOURS = 20 };

static const struct {
    const char *name;
    uint8_t rgb[3], upper, lower, accessory;
} palette[COLOURS] = {
    {"black", {26, 26, 30}, 18, 26, 30},    {"charcoal", {62, 62, 68}, 7, 9, 8},
    {"grey", {128, 128, 130}, 9, 7, 8},     {"light grey", {186, 186, 188}, 5, 2, 0},
    {"white", {236, 236, 232}, 14, 4, 4},   {"navy", {30, 38, 78}, 7, 9, 8},
    {"blue", {44, 84, 168}, 6, 5, 6},       {"sky", {128, 172, 214}, 4, 1, 0},
    {"red", {188, 36, 42}, 6, 1, 8},        {"wine", {104, 28, 42}, 3, 1, 3},
    {"orange", {222, 122, 44}, 2, 0, 3},    {"yellow", {228, 200, 72}, 3, 0, 3},
    {"green", {52, 128, 70}, 3, 1, 3},      {"olive", {92, 96, 54}, 3, 4, 4},
    {"khaki", {186, 164, 122}, 2, 7, 4},    {"brown", {102, 68, 46}, 2, 4, 8},
    {"purple", {104, 66, 136}, 2, 0, 3},    {"teal", {40, 126, 130}, 2, 0, 2},
    {"denim", {70, 92, 128}, 2, 18, 0},     {"pink", {224, 146, 164}, 4, 1, 4},
};

enum {
    SLOT_SEX, SLOT_UPPER, SLOT_LOWER, SLOT_CU, SLOT_CL = SLOT_CU + 5, SLOT_SWITCH = SLOT_CL + 5,
    SLOT_PATTERN, SLOT_CU2, SLOT_PERIOD = SLOT_CU2 + 5, SLOT_DUTY, SLOT_PHASE, SLOT_LOGO,
    SLOT_LOGO_SHAPE, SLOT_LOGO_COLOR, SLOT_LOGO_SIZE = SLOT_LOGO_COLOR + 5, SLOT_LOGO_BACK,
    SLOT_INNER, SLOT_SLEEVE = SLOT_INNER + 5, SLOT_SLEEVE_CU2, SLOT_SLEEVE_STRIPE,
    SLOT_TROUSER_STRIPE, SLOT_SHOES, SLOT_BOOTS = SLOT_SHOES + 5, SLOT_SKIRT, SLOT_SHORTS,
    SLOT_SKIN, SLOT_SKIN_FACTOR, SLOT_HAIR, SLOT_HAIR_STYLE, SLOT_HAT, SLOT_HAT_COLOR,
    SLOT_BAG = SLOT_HAT_COLOR + 5, SLOT_BAG_COLOR, SLOT_BAG_SIDE = SLOT_BAG_COLOR + 5,
    SLOT_BAG_SIZE, SLOT_BAG_TWO, SLOT_BAG_COLOR2, SLOT_SHOULDER = SLOT_BAG_COLOR2 + 5,
    SLOT_WAIST, SLOT_HIP_WIDTH, SLOT_DEPTH, SLOT_HEAD, SLOT_HIP, SLOT_LEG, SLOT_SLACK,
};

int
rc_synth_choice(uint64_t stream, int slot, const int *weights, int count)
{
    int sum = 0, cumulated = 0;
    for (int i = 0; i < count; i++) {
        sum += weights[i];
    }
    double u = rc_synth_u(stream, slot) * sum;
    for (int i = 0; i < count - 1; i++) {
        cumulated += weights[i];
        if (cumulated > u) {
            return i;
        }
    }
    return count - 1;
}

#define CHOOSE(stream, slot, ...)                                                       \
    rc_synth_choice(stream, slot, (const int[]){__VA_ARGS__},                           \
                    (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

void
rc_synth_palette_get(int index, float rgb[3])
{
    for (int i = 0; i < 3; i++) {
        rgb[i] = (float)palette[index].rgb[i] / 255.0f;
    }
}

/* A drawn colour takes five slots: choice, factor, three channels. column: u, l or a. */
static rc_synth_color
draw_color(uint64_t stream, int slot, char column)
{
    int weights[COLOURS];
    for (int i = 0; i < COLOURS; i++) {
        weights[i] = column == 'u' ? palette[i].upper
                   : column == 'l' ? palette[i].lower : palette[i].accessory;
    }
    rc_synth_color color = {.name = rc_synth_choice(stream, slot, weights, COLOURS)};
    double factor = rc_synth_exp(rc_synth_n(stream, slot + 1, 0, 0.10));
    for (int i = 0; i < 3; i++) {
        double value = palette[color.name].rgb[i] / 255.0 * factor
                       + rc_synth_n(stream, slot + 2 + i, 0, 0.03);
        color.rgb[i] = (float)rc_synth_clamp(value, 0.02, 0.97);
    }
    return color;
}

static double
l1_distance(const float a[3], const float b[3])
{
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        double d = (double)a[i] - b[i];
        sum += d < 0 ? -d : d;
    }
    return sum;
}

static void
draw_cloth(uint64_t own, rc_synth_person *p)
{
    p->pattern = CHOOSE(own, SLOT_PATTERN, 38, 13, 11, 9, 8, 8, 5, 4, 4);
    p->cu2 = draw_color(own, SLOT_CU2, 'u');
    if (l1_distance(p->cu2.rgb, p->cu.rgb) < 0.5) {
        double mean = ((double)p->cu.rgb[0] + p->cu.rgb[1] + p->cu.rgb[2]) / 3;
        double shift = mean < 0.5 ? 0.55 : -0.45;
        for (int i = 0; i < 3; i++) {
            p->cu2.rgb[i] = (float)rc_synth_clamp(p->cu.rgb[i] + shift, 0.02, 0.97);
        }
    }
    p->period = rc_synth_exp(rc_synth_range(own, SLOT_PERIOD, rc_synth_log(0.035),
                                            rc_synth_log(0.11)));
    p->duty = rc_synth_range(own, SLOT_DUTY, 0.3, 0.6);
    p->phase = rc_synth_u(own, SLOT_PHASE);
    bool print = p->pattern == RC_SYNTH_PRINT;
    p->logo = print || rc_synth_u(own, SLOT_LOGO) < 0.4;
    p->logo_shape = CHOOSE(own, SLOT_LOGO_SHAPE, 1, 1, 1, 1);
    p->logo_color = draw_color(own, SLOT_LOGO_COLOR, 'u');
    if (l1_distance(p->logo_color.rgb, p->cu.rgb) < 0.5) {
        for (int i = 0; i < 3; i++) {
            p->logo_color.rgb[i] = 1.0f - p->cu.rgb[i];
        }
    }
    p->logo_size = rc_synth_range(own, SLOT_LOGO_SIZE, 0.05, 0.10) * (print ? 1.25 : 0.55);
    p->logo_back = rc_synth_u(own, SLOT_LOGO_BACK) < 0.5;
    p->inner = draw_color(own, SLOT_INNER, 'u');
    int dress_sleeve = CHOOSE(own, SLOT_SLEEVE, 1, 1, 1);
    p->sleeve = p->upper == UPPER_TANK    ? 0
                : p->upper == UPPER_TEE   ? 0.5
                : p->upper == UPPER_DRESS ? 0.5 * dress_sleeve : 1;
    p->sleeve_cu2 = rc_synth_u(own, SLOT_SLEEVE_CU2) < 0.12;
    p->sleeve_stripe = rc_synth_u(own, SLOT_SLEEVE_STRIPE) < 0.12;
    p->trouser_stripe = rc_synth_u(own, SLOT_TROUSER_STRIPE) < 0.12;
    p->shoes = draw_color(own, SLOT_SHOES, 'a');
    p->boots = rc_synth_u(own, SLOT_BOOTS) < 0.12;
    p->skirt = rc_synth_range(own, SLOT_SKIRT, 0.12, 0.30);
    p->shorts = rc_synth_clamp(rc_synth_range(own, SLOT_SHORTS, 0.35, 0.6) * 1.9, 0, 1);
}

static void
draw_head(uint64_t own, rc_synth_person *p)
{
    static const float skins[5][3] = {
        {244, 208, 180}, {226, 178, 144}, {198, 144, 108}, {150, 102, 72}, {96, 64, 46}};
    static const float hairs[5][3] = {
        {22, 18, 18}, {52, 36, 28}, {96, 66, 42}, {168, 128, 76}, {140, 140, 140}};
    p->skin_name = CHOOSE(own, SLOT_SKIN, 25, 33, 22, 12, 8);
    double factor = rc_synth_exp(rc_synth_n(own, SLOT_SKIN_FACTOR, 0, 0.05));
    p->hair_name = CHOOSE(own, SLOT_HAIR, 45, 27, 14, 8, 6);
    for (int i = 0; i < 3; i++) {
        p->skin[i] = (float)rc_synth_clamp(skins[p->skin_name][i] / 255 * factor, 0, 0.97);
        p->hair_rgb[i] = hairs[p->hair_name][i] / 255;
    }
    static const int styles_f[] = {HAIR_LONG, HAIR_PONY, HAIR_SHORT, HAIR_BUN};
    static const int styles_m[] = {HAIR_SHORT, HAIR_CROP, HAIR_BALD, HAIR_LONG};
    p->hair = p->female ? styles_f[CHOOSE(own, SLOT_HAIR_STYLE, 40, 25, 23, 12)]
                        : styles_m[CHOOSE(own, SLOT_HAIR_STYLE, 70, 20, 7, 3)];
    p->hat = CHOOSE(own, SLOT_HAT, 82, 12, 6);
    p->hat_color = draw_color(own, SLOT_HAT_COLOR, 'a');
}

void
rc_synth_person_draw(uint64_t seed, int64_t pid, double twins, rc_synth_person *p)
{
    uint64_t own = rc_random_stream(seed, KIND_IDENTITY, (uint64_t)pid, 0, 0);
    uint64_t family = rc_random_stream(seed, KIND_FAMILY, (uint64_t)pid / 4, 0, 0);
    p->family = rc_synth_u(own, SLOT_SWITCH) < twins;
    uint64_t shared = p->family ? family : own;
    p->female = rc_synth_u(shared, SLOT_SEX) < 0.45;
    p->upper = CHOOSE(shared, SLOT_UPPER, 26, 22, 18, 12, 8, 7, 7);
    p->lower = CHOOSE(shared, SLOT_LOWER, 58, 20, 14, 8);
    p->cu = draw_color(shared, SLOT_CU, 'u');
    p->cl = draw_color(shared, SLOT_CL, 'l');
    if (p->upper == UPPER_DRESS) {
        p->cl = p->cu;
    }
    draw_cloth(own, p);
    draw_head(own, p);
    bool f = p->female;
    p->bag = CHOOSE(own, SLOT_BAG, 36, 30, 18, 16);
    p->bag_color = draw_color(own, SLOT_BAG_COLOR, 'a');
    p->side = rc_synth_u(own, SLOT_BAG_SIDE) < 0.5 ? -1 : 1;
    p->bag_size = rc_synth_range(own, SLOT_BAG_SIZE, 0.8, 1.25);
    p->bag_two = rc_synth_u(own, SLOT_BAG_TWO) < 0.3;
    p->bag_color2 = draw_color(own, SLOT_BAG_COLOR2, 'a');
    p->shoulder = rc_synth_n(own, SLOT_SHOULDER, f ? 0.089 : 0.100, 0.007);
    p->waist = rc_synth_n(own, SLOT_WAIST, f ? 0.072 : 0.086, 0.011);
    p->hip_width = rc_synth_n(own, SLOT_HIP_WIDTH, f ? 0.092 : 0.085, 0.008);
    p->depth = rc_synth_n(own, SLOT_DEPTH, 0.075, 0.010);
    p->head = rc_synth_n(own, SLOT_HEAD, 0.066, 0.003);
    p->hip = rc_synth_n(own, SLOT_HIP, 0.500, 0.012);
    p->leg = rc_synth_n(own, SLOT_LEG, 0.045, 0.004);
    p->slack = rc_synth_range(own, SLOT_SLACK, 0.9, 1.25);
}

static void
copy3(float out[3], const float in[3])
{
    for (int i = 0; i < 3; i++) {
        out[i] = in[i];
    }
}

void
rc_synth_person_describe(const rc_synth_person *p, rc_synth_attributes *out)
{
    static const char *uppers[] = {"tee", "long sleeve", "jacket", "hoodie", "coat", "dress",
                                   "tank"};
    static const char *lowers[] = {"trousers", "shorts", "skirt", "wide trousers"};
    static const char *patterns[] = {"plain", "horizontal stripes", "print", "check", "block",
                                     "band", "camouflage", "vertical stripes", "dots"};
    static const char *logos[] = {"disc", "square", "text bars", "diamond"};
    static const char *hairs[] = {"long", "pony", "short", "bun", "crop", "bald"};
    static const char *hats[] = {"none", "cap", "beanie"};
    static const char *bags[] = {"none", "backpack", "shoulder", "hand"};
    static const char *skins[] = {"very light", "light", "medium", "brown", "dark"};
    static const char *hair_colors[] = {"black", "dark brown", "brown", "blond", "grey"};
    *out = (rc_synth_attributes){
        .sex = p->female ? "female" : "male",
        .upper = uppers[p->upper],
        .lower = lowers[p->lower],
        .upper_color = palette[p->cu.name].name,
        .lower_color = palette[p->cl.name].name,
        .pattern = patterns[p->pattern],
        .second_color = palette[p->cu2.name].name,
        .logo = p->logo ? logos[p->logo_shape] : "none",
        .logo_color = palette[p->logo_color.name].name,
        .inner_color = palette[p->inner.name].name,
        .sleeve = p->sleeve == 0 ? "none" : p->sleeve == 1 ? "long" : "half",
        .shoes_color = palette[p->shoes.name].name,
        .skin = skins[p->skin_name],
        .hair_color = hair_colors[p->hair_name],
        .hair = hairs[p->hair],
        .hat = hats[p->hat],
        .hat_color = palette[p->hat_color.name].name,
        .bag = bags[p->bag],
        .bag_color = palette[p->bag_color.name].name,
        .bag_side = p->side > 0 ? "left" : "right",
        .bag_second_color = palette[p->bag_color2.name].name,
        .logo_on_back = p->logo && p->logo_back,
        .sleeve_in_second_color = p->sleeve_cu2,
        .sleeve_stripe = p->sleeve_stripe,
        .trouser_stripe = p->trouser_stripe,
        .boots = p->boots,
        .bag_two_coloured = p->bag_two,
        .from_family = p->family,
        .period = (float)p->period,
        .duty = (float)p->duty,
        .phase = (float)p->phase,
        .shoulder = (float)p->shoulder,
        .waist = (float)p->waist,
        .hip = (float)p->hip_width,
        .head = (float)p->head,
    };
    copy3(out->upper_rgb, p->cu.rgb);
    copy3(out->lower_rgb, p->cl.rgb);
    copy3(out->second_rgb, p->cu2.rgb);
    copy3(out->logo_rgb, p->logo_color.rgb);
}
