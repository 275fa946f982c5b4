/* microGPT's decode step in plain C, for `compare.py`: one token per call, f32 weights, a cache of keys and values, no intrinsics.
 *
 *   cc -O3 -march=native -o microgpt microgpt.c -lm
 *   ./microgpt WEIGHTS N_EMBD N_HEAD N_LAYER BLOCK_SIZE VOCAB SECONDS
 *
 * WEIGHTS holds little-endian f32 values in this order: wte, wpe, then for each layer wq, wk, wv, wo, fc1, fc2, then lm_head. The
 * program first prints the most likely token at each position of a context that is fed token i % 20. It then decodes full contexts for
 * SECONDS, five times, and prints the tokens per second of each.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int C, H, L, S, V;
static float *wte, *wpe, *head, **wq, **wk, **wv, **wo, **fc1, **fc2, *keys, *values;
static float *x, *normed, *q, *mixed, *hidden, *scores, *logits;

static void matvec(float *restrict out, const float *restrict w, const float *restrict in, int rows, int columns) {
    for (int r = 0; r < rows; r++) {
        float sum = 0;
        for (int k = 0; k < columns; k++) sum += w[r * columns + k] * in[k];
        out[r] = sum;
    }
}

static void rmsnorm(float *restrict out, const float *restrict in) {
    float sum = 0;
    for (int i = 0; i < C; i++) sum += in[i] * in[i];
    float factor = 1 / sqrtf(sum / C + 1e-5f);
    for (int i = 0; i < C; i++) out[i] = in[i] * factor;
}

static void decode(int token, int position) {
    int width = C / H;
    for (int i = 0; i < C; i++) x[i] = wte[token * C + i] + wpe[position * C + i];
    rmsnorm(x, x);
    for (int l = 0; l < L; l++) {
        float *key = keys + (size_t)l * S * C, *value = values + (size_t)l * S * C;
        rmsnorm(normed, x);
        matvec(q, wq[l], normed, C, C);
        matvec(key + position * C, wk[l], normed, C, C);
        matvec(value + position * C, wv[l], normed, C, C);
        for (int h = 0; h < H; h++) {
            float max = -INFINITY, total = 0;
            for (int t = 0; t <= position; t++) {
                float score = 0;
                for (int i = 0; i < width; i++) score += q[h * width + i] * key[t * C + h * width + i];
                scores[t] = score / sqrtf(width);
                if (scores[t] > max) max = scores[t];
            }
            for (int t = 0; t <= position; t++) total += scores[t] = expf(scores[t] - max);
            for (int i = 0; i < width; i++) {
                float sum = 0;
                for (int t = 0; t <= position; t++) sum += scores[t] / total * value[t * C + h * width + i];
                mixed[h * width + i] = sum;
            }
        }
        matvec(normed, wo[l], mixed, C, C);
        for (int i = 0; i < C; i++) x[i] += normed[i];
        rmsnorm(normed, x);
        matvec(hidden, fc1[l], normed, 4 * C, C);
        for (int i = 0; i < 4 * C; i++) hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
        matvec(normed, fc2[l], hidden, C, 4 * C);
        for (int i = 0; i < C; i++) x[i] += normed[i];
    }
    matvec(logits, head, x, V, C);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static FILE *file;

static float *load(size_t n) {
    float *p = malloc(n * sizeof *p);
    if (!p || fread(p, sizeof *p, n, file) != n) {
        fprintf(stderr, "the weights are too short\n");
        exit(1);
    }
    return p;
}

static float *room(size_t n) {
    float *p = calloc(n, sizeof *p);
    if (!p) exit(1);
    return p;
}

int main(int argc, char **argv) {
    if (argc != 8 || !(file = fopen(argv[1], "rb"))) {
        fprintf(stderr, "usage: %s WEIGHTS N_EMBD N_HEAD N_LAYER BLOCK_SIZE VOCAB SECONDS\n", argv[0]);
        return 2;
    }
    C = atoi(argv[2]), H = atoi(argv[3]), L = atoi(argv[4]), S = atoi(argv[5]), V = atoi(argv[6]);
    double seconds = atof(argv[7]);
    wte = load((size_t)V * C), wpe = load((size_t)S * C);
    float ***layers[] = {&wq, &wk, &wv, &wo, &fc1, &fc2};
    for (int i = 0; i < 6; i++) *layers[i] = calloc(L, sizeof(float *));
    for (int l = 0; l < L; l++)
        for (int i = 0; i < 6; i++) (*layers[i])[l] = load((size_t)(i < 4 ? 1 : 4) * C * C);
    head = load((size_t)V * C);
    keys = room((size_t)L * S * C), values = room((size_t)L * S * C);
    x = room(C), normed = room(C), q = room(C), mixed = room(C), hidden = room(4 * C), scores = room(S), logits = room(V);
    for (int i = 0; i < S; i++) {
        int best = 0;
        decode(i % 20, i);
        for (int v = 0; v < V; v++)
            if (logits[v] > logits[best]) best = v;
        printf("%d ", best);
    }
    printf("\n");
    for (int run = 0; run < 5; run++) {
        long tokens = 0;
        double start = now(), end;
        do {
            for (int i = 0; i < S; i++) decode(i % 20, i);
            tokens += S;
        } while ((end = now()) - start < seconds);
        printf("%.0f\n", tokens / (end - start));
    }
    return 0;
}
