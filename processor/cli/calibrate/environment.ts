import type { Calibrator } from '../../calibration/calibrator.ts'
import type { ReadImage } from '../caption/read-image.ts'
import type { SignalSource } from '../interruption.ts'
import type { ProgressStream } from '../progress.ts'

/** What the command needs from outside. */
export interface CalibrateEnvironment {
  /** Opens the model that the flags or the environment name. */
  openCalibrator(flags: { model?: string; device?: string }): Promise<Calibrator>
  readImage: ReadImage
  stdin: AsyncIterable<Uint8Array>
  /** For the table. */
  stdout: { write(text: string): unknown }
  /** For progress and notes. */
  stderr: ProgressStream
  signals: SignalSource
}

export interface CalibrateFlags {
  images: string[]
  count: number
  levels: number
  minExact: number
  seed: number
  out?: string
  state?: string
  speedOnly?: boolean
  dryRun?: boolean
  model?: string
  device?: string
}
