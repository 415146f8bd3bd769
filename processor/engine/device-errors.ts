/** A device that was asked for cannot be used. The message is one line and ends with the remedy. */
export class DeviceUnavailableError extends Error {
  override readonly name = 'DeviceUnavailableError'
  readonly retriable = false
  readonly device: string
  /** Message without the remedy. */
  readonly reason: string

  constructor(device: string, reason: string, remedy: string, cause?: unknown) {
    super(`Device ${device} is not available: ${reason}. ${remedy}`, { cause })
    this.device = device
    this.reason = reason
  }
}

/** The text that names the devices is malformed. */
export class InvalidDeviceError extends Error {
  override readonly name = 'InvalidDeviceError'
  readonly retriable = false

  constructor(spec: string) {
    super(`Device "${spec}" is unknown. Use auto, cpu, cuda:0, cuda:0,1,2,3 or webgpu.`)
  }
}

/** The device is there, but cannot open the model's graph. */
export class DeviceOpenError extends Error {
  override readonly name = 'DeviceOpenError'
  readonly retriable = false
  readonly device: string

  constructor(device: string, cause: unknown) {
    super(`Device ${device} could not open the model: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    })
    this.device = device
  }
}

/** The device's thread ended while it had a batch, or while it restarted. The batch can run again. */
export class DeviceCrashedError extends Error {
  override readonly name = 'DeviceCrashedError'
  readonly retriable = true
  readonly device: string

  constructor(device: string, cause?: unknown) {
    super(`Device ${device} crashed and is being restarted; run the batch again.`, { cause })
    this.device = device
  }
}

/** The runtime refused one batch, e.g. for want of memory; the device goes on. */
export class DeviceRunError extends Error {
  override readonly name = 'DeviceRunError'
  readonly retriable = true
  readonly device: string

  constructor(device: string, reason: string) {
    super(`Device ${device} could not run the batch: ${reason}`)
    this.device = device
  }
}

/** The device is closed, or closing. */
export class DeviceClosedError extends Error {
  override readonly name = 'DeviceClosedError'
  readonly retriable = true

  constructor(device: string) {
    super(`Device ${device} is closed.`)
  }
}
