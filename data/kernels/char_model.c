/* A character n-gram model asked: what it reads of a text, and how probable that is. data/corpus/learned/char_model.py says how. */
#include "text.h"

#include <math.h>

#define PROBES 4      /* slots that are looked at for an n-gram, as char_model.py places them */
#define MOST_ORDERS 64
#define AHEAD 4       /* characters whose n-grams are looked for in advance */
#define SMALL 1e-200  /* a product of probabilities is taken the logarithm of before it is smaller than numbers can be */

/* What ASCII characters may stand in, by bits. */
enum { IN_ADDRESS = 1, IN_NUMBER = 2, IN_WORD = 4, LOWER = 8 };
#define ALL IN_ADDRESS | IN_NUMBER | IN_WORD
#define SMALL_LETTER IN_ADDRESS | IN_WORD | LOWER
static const uint8_t roles[128] = {
    ['0'] = ALL, ['1'] = ALL, ['2'] = ALL, ['3'] = ALL, ['4'] = ALL, ['5'] = ALL, ['6'] = ALL, ['7'] = ALL, ['8'] = ALL, ['9'] = ALL,
    ['a'] = SMALL_LETTER, ['b'] = SMALL_LETTER, ['c'] = SMALL_LETTER, ['d'] = SMALL_LETTER, ['e'] = SMALL_LETTER, ['f'] = SMALL_LETTER,
    ['g'] = SMALL_LETTER, ['h'] = SMALL_LETTER, ['i'] = SMALL_LETTER, ['j'] = SMALL_LETTER, ['k'] = SMALL_LETTER, ['l'] = SMALL_LETTER,
    ['m'] = SMALL_LETTER, ['n'] = SMALL_LETTER, ['o'] = SMALL_LETTER, ['p'] = SMALL_LETTER, ['q'] = SMALL_LETTER, ['r'] = SMALL_LETTER,
    ['s'] = SMALL_LETTER, ['t'] = SMALL_LETTER, ['u'] = SMALL_LETTER, ['v'] = SMALL_LETTER, ['w'] = SMALL_LETTER, ['x'] = SMALL_LETTER,
    ['y'] = SMALL_LETTER, ['z'] = SMALL_LETTER,
    ['.'] = ALL, ['-'] = ALL, ['_'] = IN_ADDRESS | IN_WORD, ['\''] = IN_WORD, [':'] = IN_ADDRESS | IN_NUMBER, ['/'] = IN_ADDRESS | IN_NUMBER,
    [','] = IN_NUMBER, ['%'] = IN_ADDRESS, ['+'] = IN_ADDRESS, ['?'] = IN_ADDRESS, ['='] = IN_ADDRESS, ['&'] = IN_ADDRESS, ['#'] = IN_ADDRESS,
    ['~'] = IN_ADDRESS,
};

static inline int has_role(Py_UCS4 code, int role)
{
    return code < 128 && roles[code] & role;
}

/* "://" or "www." at `at`, of `end` characters. */
static int is_sign(const Py_UCS4 *codes, Py_ssize_t at, Py_ssize_t end)
{
    const Py_UCS4 *here = codes + at;
    return (end - at >= 3 && here[0] == ':' && here[1] == '/' && here[2] == '/') ||
           (end - at >= 4 && here[0] == 'w' && here[1] == 'w' && here[2] == 'w' && here[3] == '.');
}

/* An "@" for each address, in place; the new length. An address: a run of its characters with a sign in it, or an @ behind it and
   the run that follows. */
static Py_ssize_t with_folded_addresses(Py_UCS4 *codes, Py_ssize_t length)
{
    Py_ssize_t written = 0, at = 0;
    while (at < length) {
        Py_ssize_t start = at;
        int has_sign = 0;
        for (; at < length && has_role(codes[at], IN_ADDRESS); at++)
            has_sign |= (codes[at] == ':' || codes[at] == 'w') && is_sign(codes, at, length);
        if (at < length && codes[at] == '@') {
            for (at++; at < length && has_role(codes[at], IN_ADDRESS);)
                at++;
            codes[written++] = '@';
            continue;
        }
        if (has_sign)
            codes[written++] = '@';
        else
            for (; start < at; start++)
                codes[written++] = codes[start];
        if (at < length)
            codes[written++] = codes[at++];
    }
    return written;
}

/* A hash of each character that the model reads, `folded` as above; their number. A number is one, a foreign word in unspaced text too. */
static Py_ssize_t hash_characters(const Py_UCS4 *codes, Py_ssize_t length, int unspaced, uint64_t *symbols)
{
    uint64_t hashes[128];
    for (uint64_t code = 0; code < 128; code++)
        hashes[code] = mix(code + 1);
    Py_ssize_t count = 0;
    int number = 0, word = 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        Py_UCS4 code = codes[at];
        int decimal = is_decimal(code);
        if (number && (decimal || has_role(code, IN_NUMBER)))
            continue;
        number = decimal;
        if (number)
            code = '0';
        if (unspaced) {
            if (word && has_role(code, IN_WORD))
                continue;
            word = has_role(code, LOWER);
            if (word)
                code = 'a';
        }
        symbols[count++] = code < 128 ? hashes[code] : mix((uint64_t)code + 1);
    }
    return count;
}

/* What the model reads of the first `most` characters of a text: hashes and their number; NULL with an exception set. Ends with PyMem_Free. */
static uint64_t *read_symbols(PyObject *text, Py_ssize_t most, const Forms *forms, int unspaced, Py_ssize_t *count)
{
    Py_ssize_t length;
    Py_UCS4 *codes = take_normal(text, most, forms, 1, &length);
    if (!codes)
        return NULL;
    uint64_t *symbols = PyMem_Malloc(((size_t)length + 1) * sizeof *symbols);
    if (symbols) {
        length = with_folded_addresses(codes, length);
        *count = hash_characters(codes, length, unspaced, symbols);
    } else {
        PyErr_NoMemory();
    }
    PyMem_Free(codes);
    return symbols;
}

PyObject *symbols(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *tables[2], *given = NULL;
    int unspaced;
    Py_ssize_t count;
    Forms forms = {0};
    if (!PyArg_ParseTuple(arguments, "O(OO)p", &text, &tables[0], &tables[1], &unspaced))
        return NULL;
    if (!take_forms(&forms, tables[0], tables[1])) {
        uint64_t *found = read_symbols(text, PY_SSIZE_T_MAX, &forms, unspaced, &count);
        given = found ? PyBytes_FromStringAndSize((const char *)found, count * 8) : NULL;
        PyMem_Free(found);
    }
    give_back_forms(&forms);
    return given;
}

/* One n-gram in the hash table of its size. */
typedef struct {
    uint64_t key; /* 0: the slot is free */
    float probability, weight;
} Gram;

static uint64_t key_of(uint64_t sum)
{
    uint64_t key = mix(sum);
    return key ? key : 1;
}

static const Gram *find_gram(const Array *table, uint64_t key)
{
    const Gram *grams = table->items;
    uint64_t mask = (uint64_t)table->count - 1;
    for (uint64_t probe = 0; probe < PROBES; probe++) {
        const Gram *gram = &grams[(key + probe) & mask];
        if (gram->key == key)
            return gram;
        if (!gram->key)
            break;
    }
    return NULL;
}

/* The n-grams of all sizes that end at one character, by their keys. */
typedef struct {
    uint64_t sums[MOST_ORDERS], keys[AHEAD][MOST_ORDERS]; /* sums: of the last character; keys: of that and of some before it */
} Endings;

/* Goes on to the next character, and asks for the slots of its n-grams: they are far apart, and on their way while others are read. */
static void step(Endings *endings, uint64_t *keys, uint64_t symbol, const Array *tables, Py_ssize_t orders)
{
    for (Py_ssize_t size = orders - 1; size >= 0; size--) {
        endings->sums[size] = (size ? endings->sums[size - 1] * MULTIPLIER : 0) + symbol;
        keys[size] = key_of(endings->sums[size]);
        __builtin_prefetch((const Gram *)tables[size].items + (keys[size] & ((uint64_t)tables[size].count - 1)));
    }
}

/* -log2 of the probability of all `symbols`; an unknown character has the probability `unseen`. */
static double total_bits(const uint64_t *symbols, Py_ssize_t count, const Array *tables, Py_ssize_t orders, double unseen)
{
    const Gram *known[2][MOST_ORDERS] = {{NULL}}; /* the n-grams that end at this character and at the one before */
    Endings endings = {{0}, {{0}}};
    double bits = 0, product = 1;
    for (Py_ssize_t at = 0; at < count && at < AHEAD; at++)
        step(&endings, endings.keys[at], symbols[at], tables, orders);
    for (Py_ssize_t at = 0; at < count; at++) {
        const Gram **before = known[at & 1], **here = known[!(at & 1)];
        uint64_t *keys = endings.keys[at % AHEAD];
        here[0] = find_gram(&tables[0], keys[0]);
        double probability = here[0] ? here[0]->probability : unseen;
        Py_ssize_t size = 1;
        /* Training kept every n-gram: where a context is unknown so are all that are longer. */
        for (; size < orders && before[size - 1]; size++) {
            probability *= before[size - 1]->weight;
            here[size] = here[size - 1] ? find_gram(&tables[size], keys[size]) : NULL;
            if (here[size])
                probability = here[size]->probability;
        }
        if (size < orders)
            here[size] = NULL;
        if (at + AHEAD < count)
            step(&endings, keys, symbols[at + AHEAD], tables, orders);
        product *= probability;
        if (product < SMALL) {
            bits -= log2(product);
            product = 1;
        }
    }
    return bits - log2(product);
}

PyObject *char_model_bits(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *text, *forms_tables[2], *given, *sequence = NULL, *found = NULL;
    Py_ssize_t most;
    int unspaced;
    double unseen;
    if (!PyArg_ParseTuple(arguments, "On(OO)pdO", &text, &most, &forms_tables[0], &forms_tables[1], &unspaced, &unseen, &given) ||
        !(sequence = PySequence_Fast(given, "tables are a sequence")))
        return NULL;
    Forms forms = {0};
    Array tables[MOST_ORDERS];
    memset(tables, 0, sizeof tables);
    Py_ssize_t orders = PySequence_Fast_GET_SIZE(sequence), count;
    uint64_t *symbols = NULL;
    if (orders < 1 || orders > MOST_ORDERS) {
        PyErr_Format(PyExc_ValueError, "a model has 1 to %d orders, not %zd", MOST_ORDERS, orders);
        goto end;
    }
    for (Py_ssize_t i = 0; i < orders; i++) {
        if (take_array(&tables[i], PySequence_Fast_GET_ITEM(sequence, i), sizeof(Gram), 1))
            goto end;
        if (tables[i].count & (tables[i].count - 1)) {
            PyErr_Format(PyExc_ValueError, "a table has a power of two of slots, not %zd", tables[i].count);
            goto end;
        }
    }
    if (!take_forms(&forms, forms_tables[0], forms_tables[1]) && (symbols = read_symbols(text, most, &forms, unspaced, &count)))
        found = Py_BuildValue("dn", total_bits(symbols, count, tables, orders, unseen), count);
end:
    PyMem_Free(symbols);
    give_back_forms(&forms);
    for (int i = 0; i < MOST_ORDERS; i++)
        give_back(&tables[i]);
    Py_DECREF(sequence);
    return found;
}
