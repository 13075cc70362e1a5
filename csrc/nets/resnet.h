/* ResNets as torchvision builds them (the stride of a bottleneck in its 3x3), with IBN-a. */
#ifndef RC_RESNET_H
#define RC_RESNET_H

#include "nets/build.h"

typedef struct rc_backbone {
    const char *name;
    bool bottleneck, ibn;
    bool zero_init; /* each block starts as its shortcut: its last batch norm's weight is 0 */
    int blocks[4];
    int64_t stem;     /* channels after conv1 */
    int64_t width[4]; /* of a stage's 3x3 convolutions */
    int64_t out[4];   /* a stage's output channels */
} rc_backbone;

/* By name ("resnet50"), widths scaled: 8*max(1, round(c*multiplier/8)), half to even. */
rc_status rc_backbone_find(const char *name, double multiplier, rc_backbone *out,
                           rc_error *err);

/* conv1, bn1, ReLU; without the max pool, which FSAC puts behind its first ECA. */
rc_value rc_resnet_stem(rc_graph *g, const rc_backbone *b, rc_value images, const char *prefix);
rc_value rc_resnet_pool(rc_graph *g, rc_value x);
/* `prefix`.layer<stage>, stage 1..4; stride that of its first block. */
rc_value rc_resnet_stage(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix,
                         int stage, int64_t stride);
/* What a network changes within a stage; NULL leaves a part as it is.
 * middle: in the place of a bottleneck's 3x3 convolution (called name, conv2 of its block), with
 * its stride; FSAC puts attention there. after: behind block `place` (from 0) of the stage. */
typedef struct rc_resnet_parts {
    rc_value (*middle)(rc_graph *g, rc_value x, const char *name, int64_t stride);
    rc_value (*after)(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix, int stage,
                      int place);
} rc_resnet_parts;
rc_value rc_resnet_stage_with(rc_graph *g, const rc_backbone *b, rc_value x, const char *prefix,
                              int stage, int64_t stride, rc_resnet_parts parts);

#endif
