/* The labels of texts by a fastText classifier (Joulin et al. 2016), number for number what its own program gives: the same
   sums in the same order, and its way of making logarithms finite. */
#include "fasttext.h"

#include <math.h>

#define LABEL "__label__"
#define WORD_MULTIPLIER UINT64_C(116049371)
#define SIGMOID_REACH 8 /* beyond, the sigmoid of a label of its own is 0 or 1; within, it is looked up in so many steps */
#define SIGMOID_STEPS 512
#define AHEAD 32 /* buckets that are on their way from memory while others are hashed */

typedef struct {
    float score; /* logarithm of its probability */
    int32_t label;
} Scored;

/* Memory that is used again from text to text. */
typedef struct {
    float *hidden;
    int64_t rows;     /* that were added up there */
    uint32_t ahead[AHEAD];
    int count_ahead;
    uint8_t *word;    /* with its brackets */
    uint32_t *hashes; /* of the words so far, where n-grams of words count */
    size_t room;      /* bytes of text that the two have room for */
    Scored *best;     /* by falling score */
    int32_t found, most;
    float *outputs;   /* of all labels */
    Scored *waiting;  /* nodes of the tree */
} Memory;

static inline float float_at(const uint8_t *values, size_t index)
{
    float value;
    memcpy(&value, values + index * sizeof value, sizeof value);
    return value;
}

static inline float norm_of(const Matrix *matrix, int64_t row)
{
    return matrix->norms ? float_at(matrix->norm_centroids, matrix->norms[row]) : 1.0f;
}

/* The piece of a quantised row that a code stands for. */
static inline const uint8_t *piece_of(const Matrix *matrix, int64_t row, int32_t part, int32_t width)
{
    uint8_t code = matrix->codes[row * matrix->parts + part];
    return matrix->centroids + ((size_t)part * CENTROIDS * (size_t)matrix->width + (size_t)code * (size_t)width) * sizeof(float);
}

static void add_row(const Model *model, int64_t row, Memory *memory)
{
    const Matrix *matrix = &model->input;
    float *hidden = memory->hidden;
    memory->rows++;
    if (matrix->values) {
        const uint8_t *values = matrix->values + (size_t)row * (size_t)model->columns * sizeof(float);
        for (int32_t i = 0; i < model->columns; i++)
            hidden[i] += float_at(values, (size_t)i);
        return;
    }
    float norm = norm_of(matrix, row);
    for (int32_t part = 0; part < matrix->parts; part++) {
        int32_t width = part == matrix->parts - 1 ? matrix->last_width : matrix->width;
        const uint8_t *piece = piece_of(matrix, row, part, width);
        for (int32_t i = 0; i < width; i++)
            *hidden++ += norm * float_at(piece, (size_t)i);
    }
}

static float dot_row(const Model *model, int64_t row, const float *hidden)
{
    const Matrix *matrix = &model->output;
    float sum = 0;
    if (matrix->values) {
        const uint8_t *values = matrix->values + (size_t)row * (size_t)model->columns * sizeof(float);
        for (int32_t i = 0; i < model->columns; i++)
            sum += float_at(values, (size_t)i) * hidden[i];
        return sum;
    }
    for (int32_t part = 0; part < matrix->parts; part++) {
        int32_t width = part == matrix->parts - 1 ? matrix->last_width : matrix->width;
        const uint8_t *piece = piece_of(matrix, row, part, width);
        for (int32_t i = 0; i < width; i++)
            sum += *hidden++ * float_at(piece, (size_t)i);
    }
    return sum * norm_of(matrix, row);
}

/* Adds the rows of the buckets that were asked for. */
static void add_buckets(const Model *model, Memory *memory)
{
    for (int i = 0; i < memory->count_ahead; i++) {
        uint32_t row = memory->ahead[i];
        if (model->pruning) {
            row = kept_at(model->pruning, row)->row;
            if (!row--)
                continue;
        }
        add_row(model, (int64_t)model->words + row, memory);
    }
    memory->count_ahead = 0;
}

/* Asks for the row of a bucket, if there may be one. Vectors are far larger than caches: a row is waited for less when it is asked for early. */
static inline void ask_bucket(const Model *model, uint32_t bucket, Memory *memory)
{
    memory->ahead[memory->count_ahead] = bucket;
    if (model->pruning) {
        memory->count_ahead += may_be_kept(model->pruning, bucket); /* no branch: a coin's would be guessed wrong every other time */
    } else {
        if (model->input.values)
            __builtin_prefetch(model->input.values + ((size_t)model->words + bucket) * (size_t)model->columns * sizeof(float));
        memory->count_ahead++;
    }
    if (memory->count_ahead == AHEAD)
        add_buckets(model, memory);
}

static inline int continues(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* N-grams of characters of a word in its brackets, which alone are none. */
static void add_subwords(const Model *model, const uint8_t *word, size_t length, Memory *memory)
{
    for (size_t start = 0; start < length; start++) {
        if (continues(word[start]))
            continue;
        uint32_t hash = FNV_START;
        size_t at = start;
        for (int32_t size = 1; at < length && size <= model->longest; size++) {
            do
                hash = fnv(hash, word[at++]);
            while (at < length && continues(word[at]));
            if (size >= model->shortest && !(size == 1 && (start == 0 || at == length)))
                ask_bucket(model, hash % (uint32_t)model->buckets, memory);
        }
    }
    add_buckets(model, memory);
}

/* A token of the text; `count` words stood before it. How many there are now. */
static size_t add_token(const Model *model, const uint8_t *token, size_t length, int is_end, size_t count, Memory *memory)
{
    uint32_t hash = fnv_of(token, length);
    int64_t place = (int64_t)*place_of(model, token, length, hash) - 1;
    if (place < 0 ? length >= sizeof LABEL - 1 && !memcmp(token, LABEL, sizeof LABEL - 1) : place >= model->words)
        return count;
    if (place >= 0)
        add_row(model, place, memory);
    if (!is_end && model->longest > 0) {
        memory->word[0] = '<';
        memcpy(memory->word + 1, token, length);
        memory->word[length + 1] = '>';
        add_subwords(model, memory->word, length + 2, memory);
    }
    memory->hashes[count] = hash;
    return count + 1;
}

static void add_word_ngrams(const Model *model, size_t count, Memory *memory)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = (uint64_t)(int32_t)memory->hashes[i];
        for (size_t j = i + 1; j < count && j - i < (size_t)model->word_ngrams; j++) {
            hash = hash * WORD_MULTIPLIER + (uint64_t)(int32_t)memory->hashes[j];
            ask_bucket(model, (uint32_t)(hash % (uint64_t)model->buckets), memory);
        }
    }
    add_buckets(model, memory);
}

static inline int separates(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r') || !byte;
}

/* The mean of the vectors of a text's first line, `rows` of them. */
static void embed(const Model *model, const uint8_t *text, size_t length, Memory *memory)
{
    size_t count = 0, at = 0;
    int ended = 0;
    memset(memory->hidden, 0, (size_t)model->columns * sizeof(float));
    memory->rows = 0;
    while (!ended) {
        while (at < length && separates(text[at]) && text[at] != '\n')
            at++;
        size_t start = at;
        while (at < length && !separates(text[at]))
            at++;
        const uint8_t *token = at > start ? text + start : (const uint8_t *)END_OF_LINE;
        size_t size = at > start ? at - start : sizeof END_OF_LINE - 1;
        ended = size == sizeof END_OF_LINE - 1 && !memcmp(token, END_OF_LINE, size);
        count = add_token(model, token, size, ended, count, memory);
    }
    if (model->word_ngrams > 1)
        add_word_ngrams(model, count, memory);
    float share = (float)(1.0 / (double)memory->rows);
    for (int32_t i = 0; i < model->columns; i++)
        memory->hidden[i] *= share;
}

/* As fastText does it: never infinite. */
static inline float log_of(float probability)
{
    return (float)log((double)probability + 1e-5);
}

static void offer(Memory *memory, float score, int32_t label)
{
    int32_t at = memory->found;
    if (isnan(score) || (at == memory->most && score <= memory->best[at - 1].score))
        return;
    if (at == memory->most)
        at--;
    else
        memory->found++;
    for (; at > 0 && memory->best[at - 1].score < score; at--)
        memory->best[at] = memory->best[at - 1];
    memory->best[at] = (Scored){score, label};
}

static void search_tree(const Model *model, Memory *memory)
{
    float least = log_of(0);
    int32_t waiting = 0;
    memory->waiting[waiting++] = (Scored){0, 2 * model->labels - 2};
    while (waiting) {
        Scored node = memory->waiting[--waiting];
        if (node.score < least || (memory->found == memory->most && node.score < memory->best[memory->found - 1].score))
            continue;
        if (node.label < model->labels) {
            offer(memory, node.score, node.label);
            continue;
        }
        float right = (float)(1.0 / (double)(1 + expf(-dot_row(model, node.label - model->labels, memory->hidden))));
        Node children = model->tree[node.label];
        memory->waiting[waiting++] = (Scored){node.score + log_of(right), children.right};
        memory->waiting[waiting++] = (Scored){node.score + log_of((float)(1.0 - (double)right)), children.left};
    }
}

static float sigmoid(float value)
{
    if (!(value >= -SIGMOID_REACH))
        return 0;
    if (value > SIGMOID_REACH)
        return 1;
    int64_t step = (int64_t)((value + SIGMOID_REACH) * SIGMOID_STEPS / SIGMOID_REACH / 2);
    float rounded = (float)(step * 2 * SIGMOID_REACH) / SIGMOID_STEPS - SIGMOID_REACH;
    return (float)(1.0 / (1.0 + (double)expf(-rounded)));
}

static void score_all(const Model *model, Memory *memory)
{
    float *outputs = memory->outputs, highest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < model->labels; i++) {
        outputs[i] = dot_row(model, i, memory->hidden);
        highest = outputs[i] > highest ? outputs[i] : highest;
    }
    for (int32_t i = 0; i < model->labels; i++) {
        outputs[i] = model->loss == SOFTMAX ? expf(outputs[i] - highest) : sigmoid(outputs[i]);
        sum += outputs[i];
    }
    for (int32_t i = 0; i < model->labels; i++)
        offer(memory, log_of(model->loss == SOFTMAX ? outputs[i] / sum : outputs[i]), i);
}

static int make_room(Memory *memory, size_t length)
{
    if (memory->word && length <= memory->room)
        return 0;
    PyMem_Free(memory->word);
    PyMem_Free(memory->hashes);
    memory->room = length;
    memory->word = PyMem_Malloc(length + 2);
    memory->hashes = length > SIZE_MAX / 8 ? NULL : PyMem_Malloc((length + 2) * sizeof *memory->hashes);
    if (memory->word && memory->hashes)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static int begin_memory(Memory *memory, const Model *model, int32_t most)
{
    size_t labels = (size_t)model->labels;
    *memory = (Memory){.most = most};
    memory->hidden = PyMem_Malloc((size_t)model->columns * sizeof(float));
    memory->best = PyMem_Malloc(labels * sizeof *memory->best);
    memory->outputs = PyMem_Malloc(labels * sizeof *memory->outputs);
    memory->waiting = PyMem_Malloc((labels + 1) * sizeof *memory->waiting);
    if (memory->hidden && memory->best && memory->outputs && memory->waiting)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static void end_memory(Memory *memory)
{
    PyMem_Free(memory->hidden);
    PyMem_Free(memory->best);
    PyMem_Free(memory->outputs);
    PyMem_Free(memory->waiting);
    PyMem_Free(memory->word);
    PyMem_Free(memory->hashes);
}

/* Labels and probabilities of one str, `most` each: -1 and 0 behind the last. */
static int predict_object(const Model *model, PyObject *object, Memory *memory, int32_t *labels, float *probabilities)
{
    Py_ssize_t length;
    const char *text = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &length) : NULL;
    if (!text) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "texts are str");
        return -1;
    }
    if (make_room(memory, (size_t)length))
        return -1;
    memory->found = 0;
    embed(model, (const uint8_t *)text, (size_t)length, memory);
    if (memory->rows && model->tree)
        search_tree(model, memory);
    else if (memory->rows)
        score_all(model, memory);
    for (int32_t i = 0; i < memory->most; i++) {
        labels[i] = i < memory->found ? memory->best[i].label : -1;
        probabilities[i] = i < memory->found ? expf(memory->best[i].score) : 0;
    }
    return 0;
}

PyObject *fasttext_predict(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *object, *given, *texts = NULL, *labels = NULL, *probabilities = NULL, *found = NULL;
    int most;
    const Model *model;
    if (!PyArg_ParseTuple(arguments, "OOi", &object, &given, &most) || !(model = model_of(object)))
        return NULL;
    if (most < 1 || most > model->labels)
        return PyErr_Format(PyExc_ValueError, "of %d labels at least one can be asked for, and no more than all, not %d", (int)model->labels, most);
    Memory memory = {0};
    if (!(texts = PySequence_Fast(given, "texts are a sequence")) || begin_memory(&memory, model, most))
        goto end;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(texts);
    if (count > PY_SSIZE_T_MAX / 4 / most) {
        PyErr_NoMemory();
        goto end;
    }
    labels = PyBytes_FromStringAndSize(NULL, count * most * 4);
    probabilities = labels ? PyBytes_FromStringAndSize(NULL, count * most * 4) : NULL;
    int failed = !probabilities;
    for (Py_ssize_t i = 0; !failed && i < count; i++)
        failed = predict_object(model, PySequence_Fast_GET_ITEM(texts, i), &memory, (int32_t *)PyBytes_AS_STRING(labels) + i * most,
                                (float *)PyBytes_AS_STRING(probabilities) + i * most);
    if (!failed)
        found = PyTuple_Pack(2, labels, probabilities);
end:
    end_memory(&memory);
    Py_XDECREF(texts);
    Py_XDECREF(labels);
    Py_XDECREF(probabilities);
    return found;
}
