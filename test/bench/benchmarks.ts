import { blipTiny } from './random-blip.ts'

/** The value of an option: a positive integer, a text, or a list of integers or texts. An empty list stands for all. */
export type OptionValue = number | string | readonly number[] | readonly string[]

/** Benchmark of the command line. */
export interface Benchmark {
  description: string
  /** Options of the command line, with their defaults. */
  options: Record<string, OptionValue>
  /** Tiny sizes for a quick check, also of options that the command line does not have. */
  smoke: Record<string, unknown>
  /** Of its JSON line, beside `bench`; without a unit a ratio or a count. */
  fields: Record<string, string>
  /** Checks that this machine has the required servers; absent: none is required. */
  canRun?(): Promise<boolean>
  /** Imports the benchmark lazily. */
  load(): Promise<(options: Record<string, unknown>) => Promise<void>>
}

/** Required options are those of the command line; the rest is for `smoke`. */
type CommandLineOptions<Options> = {
  [Name in keyof Options as undefined extends Options[Name] ? never : Name]: Options[Name] & OptionValue
}

interface Entry<Options> extends Omit<Benchmark, 'options' | 'smoke' | 'load'> {
  options: CommandLineOptions<Options>
  smoke: Partial<Options>
  load(): Promise<(options: Options) => Promise<void>>
}

const benchmark = <Options>(entry: Entry<Options>) => entry as unknown as Benchmark

/** Every benchmark, by name: a new one needs an entry here and nothing else. */
export const benchmarks: Record<string, Benchmark> = {
  turbo: benchmark({
    description: 'the encoder with Turbo against a graph without it',
    options: { rounds: 9, batch: 8 },
    smoke: { rounds: 1, batch: 2, sizes: blipTiny },
    fields: {
      speedup_r40: 'BLIP-base sizes, r = 40 in every layer',
      overhead_r0: 'BLIP-base sizes, time added by a Turbo graph that merges nothing',
      batch_1_speedup_r40: 'the same for one image',
      batch_1_overhead_r0: 'the same for one image',
      starter_speedup_r14: 'starter model, r = 14 in every layer',
      starter_overhead_r0: 'starter model',
      batch: 'as given',
      rounds: 'as given',
    },
    load: async () => (await import('./turbo.ts')).benchTurbo,
  }),
  caption: benchmark({
    description: "whole captioning, and the starter model's curve",
    options: { rounds: 5, batch: 8 },
    smoke: { rounds: 1, batch: 2, sizes: blipTiny, batchSizes: [1, 2] },
    fields: {
      speedup_r40: 'BLIP-base sizes, pixels to ids, r = 40 in every layer',
      overhead_r0: 'BLIP-base sizes, time added by a Turbo graph that merges nothing',
      images_per_second_none: 'BLIP-base sizes, a graph without Turbo',
      images_per_second_r40: 'BLIP-base sizes, r = 40',
      batch: 'as given',
      rounds: 'as given',
      starter_images_per_second: 'starter model, a row for each level, a column for each batch size',
    },
    load: async () => (await import('./caption.ts')).benchCaption,
  }),
  formats: benchmark({
    description: 'tables and shards, by a device that answers at once',
    options: { rows: 1_000_000, samples: 100_000 },
    smoke: { rows: 500, samples: 50 },
    fields: {
      rows_per_second: 'Parquet with its pictures in it, to Parquet with captions',
      peak_rss_mb: 'MB of the process that did it',
      rows: 'as given',
      rows_out: 'in the output',
      webdataset_samples_per_second: 'a shard of small pictures, to one with captions',
      webdataset_peak_rss_mb: 'MB',
      samples: 'as given',
    },
    load: async () => (await import('./formats.ts')).benchFormats,
  }),
  families: benchmark({
    description: 'every family against its files step by step',
    options: {
      rounds: 3,
      families: ['vit-gpt2', 'smolvlm', 'llava', 'florence2', 'qwen2-vl', 'wd-tagger'],
      batches: [1, 8],
      ids: 32,
      python: 'python3',
    },
    smoke: { rounds: 1, batches: [1, 2], ids: 6, tiny: true },
    fields: {
      parity: "cases of tiny models with the ids of Hugging Face's transformers, of all",
      tokens:
        'of a picture or tile: what enters the vision encoder, and what leaves it at each default level',
      loop_over_steps:
        'pixels to ids, full quality, by family and batch: over the same files driven step by step',
      text_over_steps: 'the same without the time of the vision file, where ids are made',
      over_transformers_js: 'over transformers.js, one picture at a time',
      images_per_second: 'images/s, by family and batch',
      same_ids: 'whether all gave the same ids',
      tiny: 'true where times are of tiny models, and say nothing',
      rounds: 'as given',
    },
    load: async () => (await import('./families.ts')).benchFamilies,
  }),
  plug: benchmark({
    description: 'Turbo in an exported encoder against its file',
    options: { rounds: 5, batch: 1, threads: 2, r: 64, python: 'python3' },
    smoke: { rounds: 1, r: 4, tiny: true },
    fields: {
      speedup: "SmolVLM-256M's sizes, r in every layer, over the file",
      overhead_r0: 'time added where nothing merges; below 0: it is faster than the file',
      cpu_speedup: 'the same in CPU time',
      cpu_overhead_r0: 'the same in CPU time',
      open_seconds: 'seconds until the folder of 1 GB is opened, sessions not counted',
      tokens: 'that enter',
      layers: 'of the encoder',
      r: 'as given',
      batch: 'as given',
      threads: 'as given',
      rounds: 'as given',
    },
    load: async () => (await import('./plug.ts')).benchPlug,
  }),
  quality: benchmark({
    description: 'exact captions by schedule and mode, same scenes',
    options: { scenes: 2000 },
    smoke: { scenes: 4 },
    fields: {
      scenes: 'held-out scenes, as given',
      exact_r0: 'share of exact captions without pruning',
      loss_at_40_percent: 'of that share, at the first level that saves 40 % of the FLOPs',
      loss_at_60_percent: 'the same for 60 %',
      levels: 'remaining tokens and FLOPs, and share of exact captions, per level',
      against: 'share of exact captions by mode, per schedule',
    },
    load: async () => (await import('./quality.ts')).benchQuality,
  }),
  pipeline: benchmark({
    description: 'the service against the bare engine',
    options: { rounds: 5, batch: 16 },
    smoke: { rounds: 1, batch: 2 },
    fields: {
      kept: "share of the bare engine's rate",
      images_per_second: 'images/s served',
      overhead_ms_p50: 'ms of a lone request beyond its inference',
      overhead_ms_p90: 'ms',
      batch: 'images in a batch at most, as given',
      rounds: 'as given',
    },
    load: async () => (await import('./pipeline.ts')).benchPipeline,
  }),
  service: benchmark({
    description: 'Worker, Kafka, processor and S3 against the bare engine',
    options: { rounds: 5, batch: 16 },
    smoke: { rounds: 1, batch: 4, shards: 2, shardLines: 8, crowdImages: 32 },
    fields: {
      kept: "share of the bare engine's rate, in shards of a batch",
      images_per_second: 'images/s in shards of a batch',
      kept_single_jobs: "share of the bare engine's rate, as single jobs",
      images_per_second_single_jobs: 'images/s as single jobs',
      overhead_ms_p50: 'ms of a lone request beyond its inference, of that:',
      overhead_ms_p90: 'ms',
      edge_ms_p50: 'ms',
      produce_ms_p50: 'ms until the stream has the job',
      fetch_ms_p50: 'ms from there to the start of the run',
      reply_ms_p50: 'ms from the end of the run',
      overhead_ms_p50_at_32: 'ms of one of 32 requests beyond what the engine alone needs for 32',
      latency_ms_p50_at_32: 'ms of one of 32 requests',
      images_per_second_at_32: 'images/s for 32 callers',
      batch: 'images in a batch at most, as given',
      rounds: 'as given',
    },
    async canRun() {
      const [{ canStartKafka }, { canStartS3 }] = await Promise.all([
        import('../servers/kafka.ts'),
        import('../servers/s3.ts'),
      ])
      return canStartKafka() && canStartS3()
    },
    load: async () => (await import('./service.ts')).benchService,
  }),
  burst: benchmark({
    description: 'a tenfold burst: full quality, fixed levels, adaptive',
    options: { rounds: 1, seconds: 20, percent: 80, levels: [] },
    smoke: { seconds: 1, levels: [0], warmUpSeconds: 1, calmMs: 500, idleRounds: 1 },
    fields: {
      miss_full: 'share of requests not answered within the SLO at full quality',
      miss_best_static_at_equal_quality: 'the same at the best fixed level of at least equal quality',
      best_static_level: 'that level',
      miss_adaptive: 'the same with adaptive pruning',
      miss_full_over_adaptive: 'ratio',
      miss_best_static_over_adaptive: 'ratio',
      mean_prune_adaptive: 'mean prune ratio',
      mean_quality_adaptive: 'expected share of exact captions',
      steady_prune_adaptive: 'mean prune ratio before the burst',
      goodput_full: 'captions within the SLO per second at full quality',
      goodput_best_static: 'the same at the best fixed level',
      goodput_adaptive: 'the same with adaptive pruning',
      policies: 'miss, latencies in ms, quality, prune ratio and goodput of each policy',
      predicted: 'prediction of the simulator for the adaptive run',
      client_lag_ms_p50: 'ms that callers sent late',
      client_lag_ms_p99: 'ms',
      slo_ms: 'ms',
      hardest_level: 'level',
      sustained_hardest: 'images/s that the hardest level sustains',
      base_rate: 'requests/s before and after the burst',
      burst_rate: 'requests/s',
      burst_seconds: 's',
      quality: 'source of the expected shares',
      rounds: 'as given',
    },
    load: async () => (await import('./burst.ts')).benchBurst,
  }),
  mixed: benchmark({
    description: 'batches that saturate, beside interactive requests',
    options: { rounds: 3, seconds: 20 },
    smoke: { rounds: 1, seconds: 1, warmUpSeconds: 1, settleMs: 1000 },
    fields: {
      interactive_p50_ms: 'ms',
      interactive_p99_ms: 'ms',
      interactive_miss: 'share of requests not answered within the SLO',
      interactive_mean_prune: 'mean prune ratio',
      slo_ms: 'ms',
      busy_share: 'of the device, beside interactive requests',
      busy_share_alone: 'of the device, batches alone',
      batch_kept: "share of the batches' rate alone",
      batch_rate_alone: 'images/s',
      batch_rate_mixed: 'images/s',
      interactive_rate: 'requests/s',
      unpruned_rate: 'images/s sustained without pruning',
      rounds: 'as given',
    },
    load: async () => (await import('./mixed.ts')).benchMixed,
  }),
  controller: benchmark({
    description: 'cost of one scheduling decision with very many images queued',
    options: { images: 100_000, rounds: 3000 },
    smoke: { images: 1000, rounds: 100 },
    fields: {
      images: 'queued, as given',
      decision_us_p50: 'microseconds for the next batch',
      decision_us_p99: 'microseconds',
      undisturbed_us_p99: 'microseconds, of the decisions that no other process interrupted',
      undisturbed: 'share of those',
      admission_us_p50: 'microseconds for admission',
      admission_us_p99: 'microseconds',
      rounds: 'decisions, as given',
    },
    load: async () => (await import('./controller.ts')).benchController,
  }),
  simulate: benchmark({
    description: 'a million requests on a simulated fleet',
    options: { images: 1_000_000 },
    smoke: { images: 5000 },
    fields: {
      requests: 'requests',
      gpus: 'simulated processors',
      seconds_adaptive: 's for the adaptive fleet',
      seconds_full: 's for the fleet at full quality',
      resident_mb: 'MB',
    },
    load: async () => (await import('./simulate.ts')).benchSimulate,
  }),
  planner: benchmark({
    description: 'planning and joining a large batch',
    options: { lines: 1_000_000 },
    smoke: { lines: 1000, shards: 4 },
    fields: {
      lines_per_second: 'lines/s planned',
      peak_rss_mb: 'MB resident while planning',
      join_mb_per_second: 'MB/s joined',
      join_peak_rss_mb: 'MB resident while joining',
      store: 'object store',
    },
    load: async () => (await import('./planner.ts')).benchPlanner,
  }),
  gpu: benchmark({
    description: 'whole captioning by batch size on one device',
    options: { device: 'auto', sizes: ['base', 'large'], batches: [1, 8, 32, 64, 128], r: 40, rounds: 5 },
    smoke: { device: 'cpu', sizes: ['small'], batches: [1, 2], rounds: 1 },
    fields: {
      device: 'name',
      sizes: 'of the model; a line for each',
      r: 'tokens merged in every layer, as given',
      rounds: 'as given',
      milliseconds:
        'for each batch size a batch without Turbo, with schedules as inputs, and with a fixed one',
    },
    load: async () => (await import('./gpu.ts')).benchGpu,
  }),
  start: benchmark({
    description: 'time to ready and resident memory',
    options: { rounds: 3 },
    smoke: { rounds: 1, sizes: blipTiny },
    fields: {
      starter_seconds: 's to ready, starter model',
      starter_rss_mb: 'MB resident, starter model',
      base_seconds: 's to ready, BLIP-base sizes',
      base_rss_mb: 'MB resident, BLIP-base sizes',
      rounds: 'as given',
    },
    load: async () => (await import('./start.ts')).benchStart,
  }),
  memory: benchmark({
    description: 'resident memory over many images',
    options: { images: 10_000 },
    smoke: { images: 50 },
    fields: {
      images: 'as given',
      rss_mb: 'MB resident after each tenth of them',
      growth_mb: 'MB from the second tenth to the last',
    },
    load: async () => (await import('./memory.ts')).benchMemory,
  }),
  polite: benchmark({
    description: 'a batch from a host that limits its callers, beside one that does not',
    options: { lines: 400, rate: 10, otherLatencyMs: 3000 },
    smoke: { lines: 12, rate: 50, otherLatencyMs: 10 },
    fields: {
      completed: 'lines of the limited host that have a caption',
      requests_over_limit_share: 'share of the requests to it that it refused',
      rate_reached: 'images per second that it delivered, of those that it gives',
      other_host_rate: "the other host's images per second, of those alone",
      lines: 'of each host, as given',
      rate: 'images per second that the limited host gives, as given',
    },
    load: async () => (await import('./polite.ts')).benchPolite,
  }),
  hostile: benchmark({
    description: 'a hostile tenant beside an honest one, attack by attack',
    options: {
      attacks: [
        'json',
        'batch-lines',
        'leaving',
        'slow-readers',
        'images',
        'slow-bodies',
        'heavy-bodies',
        'refused-objects',
        'silent-hosts',
      ],
      seconds: 10,
      rate: 12,
      lines: 10,
    },
    smoke: { attacks: ['json', 'slow-bodies'], seconds: 1, lines: 2, share: 0.002 },
    fields: {
      honest_failed: "the honest tenant's requests and lines without a caption",
      honest_p99_ratio:
        "99th percentile of its requests' latency, under attack against calm, the worst attack's",
      peak_rss_mb: "MB resident, of the service's processes together",
      event_loop_max_ms: "ms, longest turn of the service's main thread",
      event_loop_busy_max_ms: 'ms of processor time in such a turn',
      deaths: 'times that the service had to be started again',
      calm_p99_ms: 'ms without an attack',
      calm_event_loop_max_ms: 'ms without an attack',
      attacks: 'the same for each attack, and how long the batch of the honest tenant took, in s',
      seconds: 'of each attack, as given',
    },
    load: async () => (await import('./hostile.ts')).benchHostile,
  }),
}
