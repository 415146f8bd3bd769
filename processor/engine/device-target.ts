/** Execution providers of ONNX Runtime that Turbine runs on. */
type Provider = 'cpu' | 'cuda' | 'webgpu'

/** A place where a session can live. */
export interface DeviceTarget {
  /** As it is asked for and reported: `cpu`, `cuda:0`. */
  name: string
  provider: Provider
  /** Index of the GPU among the visible ones; 0 elsewhere. */
  deviceId: number
}
