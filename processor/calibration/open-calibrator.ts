import type { Config } from '../../infra/config.ts'
import { resolveDevices } from '../engine/devices.ts'
import { openModel } from '../models/open-model.ts'
import { onlyModel, precisionOf } from '../pipeline/open.ts'
import { type Calibrator, startCalibrator } from './calibrator.ts'

/**
 * Opens the configured model for calibration, on the first of the configured devices.
 * @throws ModelFolderError, DeviceUnavailableError, DeviceOpenError, InvalidDeviceError
 */
export async function openCalibrator(config: Config): Promise<Calibrator> {
  const { devices } = await resolveDevices(config.device)
  const device = devices[0]!
  const model = await openModel(onlyModel(config))
  const { precision } = await precisionOf(config, model, device)
  const intraOpThreads = config.intraOpThreads || undefined
  return startCalibrator({ model, device, precision, batch: config.maxBatch, intraOpThreads })
}
