import { TurbineError } from '../../../edge/contract/errors.ts'
import type { Captioned, Captioner, CaptionTask } from '../../pipeline/captioner.ts'

/** The devices have other work. */
export class DevicesBusyError extends Error {
  override readonly name = 'DevicesBusyError'
  readonly retriable = true

  constructor() {
    super('The devices have other work.')
  }
}

/** The devices of a captioner as far as they have nothing else to do: at full quality, after everything that waits. */
export class IdleDevices implements Pick<Captioner, 'caption' | 'concurrency'> {
  readonly #captioner: Pick<Captioner, 'caption' | 'concurrency'>
  #waiting = 0
  #served = 0

  constructor(captioner: Pick<Captioner, 'caption' | 'concurrency'>) {
    this.#captioner = captioner
  }

  get concurrency(): number {
    return this.#captioner.concurrency
  }

  /** Images that wait for a device, or are on one. */
  get waiting(): number {
    return this.#waiting
  }

  /** Images captioned since the start. */
  get served(): number {
    return this.#served
  }

  /** @throws DevicesBusyError when there is no room to wait in; what `Captioner.caption` throws */
  async caption(task: CaptionTask): Promise<Captioned> {
    this.#waiting++
    try {
      const captioned = await this.#captioner.caption({
        ...task,
        deadline: undefined,
        level: 0,
        idle: true,
      })
      this.#served++
      return captioned
    } catch (error) {
      if (error instanceof TurbineError && error.code === 'queue_full') throw new DevicesBusyError()
      throw error
    } finally {
      this.#waiting--
    }
  }
}
