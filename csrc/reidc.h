/* Everything that bindings (csrc/py) and C tests may include, and nothing else. */
#ifndef REIDC_H
#define REIDC_H

#include "base/base.h"
#include "base/random.h"
#include "cpu/cpu.h"
#include "cpu/fast.h"
#include "cpu/tune.h"
#include "data/data.h"
#include "device/device.h"
#include "eval/eval.h"
#include "graph/labels.h"
#include "graph/op.h"
#include "io/io.h"
#include "nets/build.h"
#include "ops/aabs.h"
#include "plan/model.h"
#include "synth/synth.h"
#include "train/ema.h"
#include "train/losses.h"
#include "train/optim.h"

#endif
