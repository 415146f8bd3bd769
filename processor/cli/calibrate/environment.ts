import type { Calibrator } from '../../calibration/calibrator.ts'
import type { ReadImage } from '../caption/read-image.ts'
import type { SignalSource } from '../interruption.ts'
import type { Terminal } from '../progress.ts'
import type { ModelFlags } from '../settings.ts'

/** Dependencies of the command. */
export interface CalibrateEnvironment extends Terminal {
  openCalibrator(flags: ModelFlags): Promise<Calibrator>
  readImage: ReadImage
  stdin: AsyncIterable<Uint8Array>
  signals: SignalSource
  /** Memory for decoded pictures, bytes. Default: a quarter of what the process may use. */
  pictureBytes?: number
  /** The most memory that the process has taken, bytes. Default: as the system says. */
  peakMemory?(): number
  /** ms. Default: the clock. */
  now?(): number
}

export interface CalibrateFlags extends ModelFlags {
  images: string[]
  count: number
  levels: number
  minExact: number
  seed: number
  out?: string
  state?: string
  speedOnly?: boolean
  dryRun?: boolean
}
