/** Error of one device. */
class DeviceError extends Error {
  readonly device: string

  constructor(device: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.device = device
  }
}

/** Device that cannot be used. The message is one line and ends with the remedy. */
export class DeviceUnavailableError extends DeviceError {
  override readonly name = 'DeviceUnavailableError'
  readonly retriable = false
  /** Message without the remedy. */
  readonly reason: string

  constructor(device: string, reason: string, remedy: string, cause?: unknown) {
    super(device, `Device ${device} is not available: ${reason}. ${remedy}`, { cause })
    this.reason = reason
  }
}

/** Malformed list of devices. */
export class InvalidDeviceError extends Error {
  override readonly name = 'InvalidDeviceError'
  readonly retriable = false

  constructor(spec: string) {
    super(`Device "${spec}" is unknown. Use auto, cpu, cuda:0, cuda:0,1,2,3 or webgpu.`)
  }
}

/** Device that cannot open the model's graph. */
export class DeviceOpenError extends DeviceError {
  override readonly name = 'DeviceOpenError'
  readonly retriable = false

  constructor(device: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : cause
    super(device, `Device ${device} could not open the model: ${reason}`, { cause })
  }
}

/** Device whose thread ended during a batch or its restart. The batch can be retried. */
export class DeviceCrashedError extends DeviceError {
  override readonly name = 'DeviceCrashedError'
  readonly retriable = true

  constructor(device: string, cause?: unknown) {
    super(device, `Device ${device} crashed and is being restarted; retry the batch.`, { cause })
  }
}

/** Batch that failed, e.g. out of memory; the device keeps running. */
export class DeviceRunError extends DeviceError {
  override readonly name = 'DeviceRunError'
  readonly retriable = true

  constructor(device: string, reason: string) {
    super(device, `Device ${device} could not run the batch: ${reason}`)
  }
}

/** Device that is closed, or closing. */
export class DeviceClosedError extends DeviceError {
  override readonly name = 'DeviceClosedError'
  readonly retriable = true

  constructor(device: string) {
    super(device, `Device ${device} is closed.`)
  }
}
