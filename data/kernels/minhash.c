/* Minima of many hash functions a*x + b mod 2^32 over a set. */
#include "text.h"

#define LANES 16 /* functions worked out side by side: their minima stay in registers */

/* Where the processor has wider instructions they are used: glibc chooses once, when the library is loaded. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* The upper halves of the `count` hashes are the members of the set. */
WIDE static void minima_of(const uint64_t *hashes, Py_ssize_t count, const uint32_t *a, const uint32_t *b, uint32_t *out)
{
    uint32_t lowest[LANES];
    for (int lane = 0; lane < LANES; lane++)
        lowest[lane] = UINT32_MAX;
    for (Py_ssize_t at = 0; at < count; at++) {
        uint32_t value = (uint32_t)(hashes[at] >> 32);
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t hashed = a[lane] * value + b[lane];
            lowest[lane] = hashed < lowest[lane] ? hashed : lowest[lane];
        }
    }
    memcpy(out, lowest, sizeof lowest);
}

PyObject *minhash(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *objects[3], *found = NULL;
    if (!PyArg_ParseTuple(arguments, "OOO", &objects[0], &objects[1], &objects[2]))
        return NULL;
    Array hashes = {0}, a = {0}, b = {0};
    if (!take_array(&hashes, objects[0], 8, 1) && !take_array(&a, objects[1], 4, 0) && !take_array(&b, objects[2], 4, a.count) &&
        (found = PyBytes_FromStringAndSize(NULL, a.count * 4))) {
        uint32_t *out = (uint32_t *)PyBytes_AS_STRING(found);
        for (Py_ssize_t at = 0; at < a.count; at += LANES) {
            uint32_t rows[3][LANES] = {{0}}; /* a, b and the minima; fewer at the end */
            size_t here = (size_t)(a.count - at < LANES ? a.count - at : LANES) * sizeof(uint32_t);
            memcpy(rows[0], (const uint32_t *)a.items + at, here);
            memcpy(rows[1], (const uint32_t *)b.items + at, here);
            minima_of(hashes.items, hashes.count, rows[0], rows[1], rows[2]);
            memcpy(out + at, rows[2], here);
        }
    }
    give_back(&hashes);
    give_back(&a);
    give_back(&b);
    return found;
}
