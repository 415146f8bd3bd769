import type { Config } from '../../infra/config.ts'
import { resolveDevices } from '../engine/devices.ts'
import { askedByDefault, capabilitiesOf } from '../pipeline/capabilities.ts'
import { openConfigured, precisionOf } from '../pipeline/open.ts'
import { type Calibrator, startCalibrator } from './calibrator.ts'

/**
 * Opens the configured model for calibration, on the first of the configured devices.
 * @throws ModelFolderError, DeviceUnavailableError, DeviceOpenError, InvalidDeviceError, ConfigError for a prompt that the
 * model cannot follow
 */
export async function openCalibrator(config: Config): Promise<Calibrator> {
  const { devices } = await resolveDevices(config.device)
  const device = devices[0]!
  const model = await openConfigured(config, device)
  const { precision } = await precisionOf(config, model, device)
  const intraOpThreads = config.intraOpThreads || undefined
  const request = askedByDefault({ id: model.id, can: capabilitiesOf(model) }, config.prompt)
  return startCalibrator({ model, device, precision, batch: config.maxBatch, intraOpThreads, request })
}
