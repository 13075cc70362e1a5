/* The table of operations, from op_list.h: index is the rc_op_id. */
#include "graph/op.h"

#define DECLARE(name) extern const rc_op rc_op_##name;
RC_OP_LIST(DECLARE)
#undef DECLARE

const rc_op *const rc_op_table[RC_OP_COUNT] = {
#define ENTRY(name) [RC_OP_##name] = &rc_op_##name,
    RC_OP_LIST(ENTRY)
#undef ENTRY
};
