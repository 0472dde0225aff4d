/* A stand-in for libnvidia-ml.so.1, for the calls that orchestrator/gpu.py makes through the real binding.
 *
 * Its state is the text file named by $FAKE_NVML, read anew at every call, one fact per line:
 *   driver 580.159.03
 *   init 18                      error code of nvmlInit (18: driver/library version mismatch)
 *   gpu uuid=GPU-1 bus=00000000:01:00.0 name=NVIDIA_H100 memory=80000 used=4 util=0 power=700 mig=0 error=0 xid=0
 *       mode=0 rows=0 ecc=0      compute mode, broken rows, uncorrected errors
 *       clock=1755 draws=310 heat=41 throttled=4     MHz, watts, degrees, bits of the reasons; clock=0: not supported
 *   mig uuid=MIG-1 parent=GPU-1 index=0 name=NVIDIA_H100_MIG_1g.10gb memory=10000 used=0 error=0
 *   proc uuid=GPU-1 pid=42
 *   cold                         no persistence mode: 100 % busy when it is first looked at after nvmlInit
 *   open                         anyone may change settings; else only root may, as with the real one
 * Memory is in MiB, power in watts, an underscore in a name is a space, `error` is what calls on that device return.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NO_PERMISSION 4
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define TIMEOUT 10
#define UNKNOWN 999
#define MIB 1048576ULL
#define MOST 64

typedef unsigned long long u64;
typedef struct { char uuid[96], parent[96], name[96], bus[32]; u64 memory, used; unsigned util, power, mig, index, error, xid, mode, rows, ecc, clock, draws, heat, throttled; } Device;
typedef struct { char uuid[96]; unsigned pid; } Process;
typedef struct { char driver[80]; int init, open, cold, gpus, migs, procs; Device gpu[MOST], mig[MOST]; Process proc[MOST]; } State;

static __thread State state;

static void word(const char *line, const char *key, char *into, size_t size) {
    char needle[32];
    snprintf(needle, sizeof needle, " %s=", key);
    const char *at = strstr(line, needle);
    into[0] = 0;
    if (!at) return;
    at += strlen(needle);
    size_t n = strcspn(at, " \n");
    if (n >= size) n = size - 1;
    memcpy(into, at, n);
    into[n] = 0;
}

static u64 number(const char *line, const char *key) {
    char text[32];
    word(line, key, text, sizeof text);
    return strtoull(text, NULL, 10);
}

static void device(const char *line, Device *d) {
    word(line, "uuid", d->uuid, sizeof d->uuid);
    word(line, "parent", d->parent, sizeof d->parent);
    word(line, "name", d->name, sizeof d->name);
    word(line, "bus", d->bus, sizeof d->bus);
    for (char *c = d->name; *c; c++) if (*c == '_') *c = ' ';
    d->memory = number(line, "memory") * MIB;
    d->used = number(line, "used") * MIB;
    d->util = number(line, "util");
    d->power = number(line, "power") * 1000;
    d->mig = number(line, "mig");
    d->index = number(line, "index");
    d->error = number(line, "error");
    d->xid = number(line, "xid");
    d->mode = number(line, "mode");
    d->rows = number(line, "rows");
    d->ecc = number(line, "ecc");
    d->clock = number(line, "clock");
    d->draws = number(line, "draws");
    d->heat = number(line, "heat");
    d->throttled = number(line, "throttled");
}

static State *load(void) {
    State *s = &state;
    char line[512];
    memset(s, 0, sizeof *s);
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) { s->init = UNKNOWN; return s; }
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "driver ", 7)) sscanf(line + 7, "%79s", s->driver);
        if (!strncmp(line, "init ", 5)) s->init = atoi(line + 5);
        if (!strncmp(line, "open", 4)) s->open = 1;
        if (!strncmp(line, "cold", 4)) s->cold = 1;
        if (!strncmp(line, "gpu ", 4) && s->gpus < MOST) device(line, &s->gpu[s->gpus++]);
        if (!strncmp(line, "mig ", 4) && s->migs < MOST) device(line, &s->mig[s->migs++]);
        if (!strncmp(line, "proc ", 5) && s->procs < MOST) {
            Process *p = &s->proc[s->procs++];
            word(line, "uuid", p->uuid, sizeof p->uuid);
            p->pid = number(line, "pid");
        }
    }
    fclose(file);
    return s;
}

/* A handle is 1 + the index of a GPU, or 1001 + the line of a MIG instance. */
static Device *of(void *handle) {
    State *s = load();
    size_t n = (size_t)handle;
    if (n > 1000 && n - 1001 < (size_t)s->migs) return &s->mig[n - 1001];
    return n >= 1 && n - 1 < (size_t)s->gpus ? &s->gpu[n - 1] : NULL;
}

#define DEVICE(h) Device *d = of(h); if (!d) return INVALID_ARGUMENT; if (d->error) return d->error

static int users, fresh;
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = load()->init;
    if (!code && !users++) fresh = 1;
    return code;
}
int nvmlShutdown(void) { if (users) users--; return OK; }

const char *nvmlErrorString(int code) { return code == 15 ? "GPU is lost" : code == 18 ? "Driver/library version mismatch" : "error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "%s", load()->driver); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = load()->gpus; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= (unsigned)load()->gpus) return INVALID_ARGUMENT;
    *handle = (void *)(size_t)(index + 1);
    return state.gpu[index].error;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    State *s = load();
    for (int i = 0; i < s->gpus; i++)
        if (!strcmp(s->gpu[i].uuid, uuid)) { *handle = (void *)(size_t)(i + 1); return s->gpu[i].error; }
    for (int i = 0; i < s->migs; i++)
        if (!strcmp(s->mig[i].uuid, uuid)) { *handle = (void *)(size_t)(i + 1001); return s->mig[i].error; }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(void *h, char *text, unsigned size) { DEVICE(h); snprintf(text, size, "%s", d->uuid); return OK; }
int nvmlDeviceGetName(void *h, char *text, unsigned size) { DEVICE(h); snprintf(text, size, "%s", d->name); return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *mw) { DEVICE(h); *mw = d->power; return d->power ? OK : NOT_SUPPORTED; }

struct memory { u64 total, free, used; };
int nvmlDeviceGetMemoryInfo(void *h, struct memory *m) {
    DEVICE(h);
    m->total = d->memory; m->used = d->used; m->free = d->memory - d->used;
    return OK;
}

struct memory_v2 { unsigned version; u64 total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo_v2(void *h, struct memory_v2 *m) {
    DEVICE(h);
    m->total = d->memory; m->used = d->used; m->free = d->memory - d->used; m->reserved = 0;
    return OK;
}

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
int nvmlDeviceGetPciInfo_v3(void *h, struct pci *p) {
    DEVICE(h);
    memset(p, 0, sizeof *p);
    snprintf(p->bus_id, sizeof p->bus_id, "%s", d->bus);
    return OK;
}

int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *next) { DEVICE(h); *now = *next = d->mig; return OK; }
int nvmlDeviceGetComputeMode(void *h, unsigned *mode) { DEVICE(h); *mode = d->mode; return OK; }
int nvmlDeviceGetRemappedRows(void *h, unsigned *corrected, unsigned *not, unsigned *pending, unsigned *failed) {
    DEVICE(h);
    *corrected = *not = *failed = 0; *pending = d->rows;
    return OK;
}
int nvmlDeviceGetTotalEccErrors(void *h, unsigned type, unsigned counter, u64 *count) {
    DEVICE(h);
    *count = type == 1 && counter == 0 ? d->ecc : 0;
    return OK;
}
int nvmlDeviceGetClockInfo(void *h, unsigned type, unsigned *mhz) { DEVICE(h); (void)type; *mhz = d->clock; return d->clock ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *mw) { DEVICE(h); *mw = d->draws * 1000; return d->clock ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetTemperature(void *h, unsigned sensor, unsigned *c) { DEVICE(h); (void)sensor; *c = d->heat; return d->clock ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, u64 *bits) { DEVICE(h); *bits = d->throttled; return d->clock ? OK : NOT_SUPPORTED; }
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *count) { DEVICE(h); *count = 7; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned index, void **mig) {
    DEVICE(h);
    for (int i = 0; i < state.migs; i++)
        if (!strcmp(state.mig[i].parent, d->uuid) && state.mig[i].index == index) {
            *mig = (void *)(size_t)(i + 1001);
            return OK;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUtilizationRates(void *h, unsigned rates[2]) {
    DEVICE(h);
    if (d->parent[0]) return NOT_SUPPORTED;
    rates[0] = state.cold && fresh ? 100 : d->util; rates[1] = 0;
    fresh = 0;
    return OK;
}

struct process { unsigned pid; u64 used; unsigned gpu_instance, compute_instance; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *count, struct process *into) {
    DEVICE(h);
    unsigned room = *count, n = 0;
    for (int i = 0; i < state.procs; i++)
        if (!strcmp(state.proc[i].uuid, d->uuid)) {
            if (into && n < room) { memset(&into[n], 0, sizeof into[n]); into[n].pid = state.proc[i].pid; into[n].used = 100 * MIB; }
            n++;
        }
    *count = n;
    return n > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *count, struct process *into) {
    DEVICE(h);
    (void)into;
    *count = 0;
    return OK;
}

/* One event set, one device: each time the file's xid is another one than last time, that is an event. */
static void *watched;
static unsigned last_xid;

int nvmlEventSetCreate(void **set) { *set = (void *)1; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceRegisterEvents(void *h, u64 types, void *set) { DEVICE(h); (void)types; (void)set; watched = h; last_xid = d->xid; return OK; }

struct event { void *device; u64 type, data; unsigned gpu_instance, compute_instance; };
int nvmlEventSetWait_v2(void *set, struct event *e, unsigned ms) {
    (void)set; (void)ms;
    Device *d = of(watched);
    if (!d || !d->xid || d->xid == last_xid) return TIMEOUT;
    memset(e, 0, sizeof *e);
    e->device = watched; e->type = 8; e->data = last_xid = d->xid;
    return OK;
}

/* Settings, for the probes: they can be read by all, and set by root. */
static int set(void *h) { DEVICE(h); return load()->open || geteuid() == 0 ? OK : NO_PERMISSION; }

int nvmlDeviceGetPowerManagementLimit(void *h, unsigned *mw) { DEVICE(h); *mw = d->power; return OK; }
int nvmlDeviceSetPowerManagementLimit(void *h, unsigned mw) { DEVICE(h); return mw == d->power ? set(h) : INVALID_ARGUMENT; }
int nvmlDeviceGetApplicationsClock(void *h, unsigned which, unsigned *mhz) { DEVICE(h); *mhz = which ? 2619 : 1980; return OK; }
int nvmlDeviceSetApplicationsClocks(void *h, unsigned memory, unsigned cores) { return memory == 2619 && cores == 1980 ? set(h) : INVALID_ARGUMENT; }
int nvmlDeviceSetComputeMode(void *h, unsigned mode) { DEVICE(h); return mode == d->mode ? set(h) : INVALID_ARGUMENT; }
int nvmlDeviceGetPersistenceMode(void *h, unsigned *mode) { DEVICE(h); *mode = 1; return OK; }
int nvmlDeviceSetPersistenceMode(void *h, unsigned mode) { return mode == 1 ? set(h) : INVALID_ARGUMENT; }
int nvmlDeviceGetAccountingMode(void *h, unsigned *mode) { DEVICE(h); *mode = 0; return NOT_SUPPORTED; }
