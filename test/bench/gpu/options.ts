export interface GpuOptions {
  device: string
  /** `small`, `base`, `large`. */
  sizes: string[]
  batches: number[]
  rounds: number
  /** Tokens merged in every layer, beside the default levels. */
  r: number
  /** Ids of each caption. */
  ids: number
  /** What is measured: `engine`, `torch`, `pipeline`, `families`. */
  parts: string[]
  /** Times graphs that are built for one level and one batch size too. */
  fixed: boolean
  /** Prints where the nodes of a run went. */
  profile: boolean
  /** Files of the folder that the pipeline is fed from. */
  photos: number
  families: string[]
  /** One that has PyTorch, or `own`: the environment of the peers. */
  python: string
  /** Takes the families' tiny models, whose times say nothing. */
  tiny?: boolean
  /** Float32 on a CPU; float16 has no fast kernels there. */
  float16?: boolean
}
