import { type Lane, lanes } from './level.ts'

/** Queue of a model that shares its devices with other models. */
export interface TurnQueue {
  /** Images that wait. */
  waiting(lane: Lane): number
  /** Time that a device needs for them, ms. */
  workMs(lane: Lane): number
  /** Called when a device is free: takes it if anything waits. */
  feed(): void
}

/** A model's access to the devices. */
export interface DeviceTurn {
  /** Takes a device for a run of a lane's batch. @returns false while another model has it */
  take(device: string, lane: Lane): boolean
  /** Expected end of the run, unix ms. */
  expect(device: string, freeAt: number): void
  /**
   * Whether the model keeps a device, after `ms` of a run, for images of a lane that join it: not where another model is next.
   */
  goOn(device: string, lane: Lane, ms: number): boolean
  /** Gives the device back after `ms` of a run; whoever is to be next takes it. */
  release(device: string, ms: number): void
  /** Expected end of another model's run, unix ms; 0 while there is none. */
  freeAt(device: string): number
  /** Work of other models in a lane, ms of a device. */
  othersMs(lane: Lane): number
  /** Other models that have work in a lane. */
  others(lane: Lane): number
}

interface Member {
  queue: TurnQueue
  /** Device time of each lane, ms, where others that were idle meanwhile have caught up. */
  used: Record<Lane, number>
}

interface Run {
  member: Member
  lane: Lane
  freeAt: number
}

/**
 * Gives each device to one of several models at a time: a model that captions for callers goes before those that run batches, and
 * then the one that has had less of the devices, so that models with work get equal time however long their runs are. Who was
 * idle has no claim on the time that others used meanwhile.
 */
export class DeviceTurns {
  readonly #members: Member[] = []
  readonly #runs = new Map<string, Run>()
  /** Device time of who was served last, by lane. */
  readonly #served: Record<Lane, number> = { interactive: 0, batch: 0 }

  join(queue: TurnQueue): DeviceTurn {
    const member: Member = { queue, used: { interactive: 0, batch: 0 } }
    this.#members.push(member)
    return {
      take: (device, lane) => this.#take(member, device, lane),
      expect: (device, freeAt) => {
        const run = this.#runs.get(device)
        if (run?.member === member) run.freeAt = freeAt
      },
      goOn: (device, lane, ms) => this.#goOn(member, { device, lane, ms }),
      release: (device, ms) => this.#release(member, device, ms),
      freeAt: (device) => {
        const run = this.#runs.get(device)
        return run && run.member !== member ? run.freeAt : 0
      },
      othersMs: (lane) =>
        this.#members.reduce((sum, other) => (other === member ? sum : sum + other.queue.workMs(lane)), 0),
      others: (lane) =>
        this.#members.filter((other) => other !== member && other.queue.waiting(lane) > 0).length,
    }
  }

  #take(member: Member, device: string, lane: Lane): boolean {
    if (this.#runs.has(device)) return false
    this.#runs.set(device, { member, lane, freeAt: 0 })
    this.#serve(member, lane)
    return true
  }

  #serve(member: Member, lane: Lane): void {
    member.used[lane] = Math.max(member.used[lane], this.#served[lane])
    this.#served[lane] = member.used[lane]
  }

  #goOn(member: Member, { device, lane, ms }: { device: string; lane: Lane; ms: number }): boolean {
    const run = this.#runs.get(device)
    if (run?.member !== member) return false
    const used = member.used[lane] + (run.lane === lane ? ms : 0)
    const isNext = this.#members.every((other) => {
      const otherLane = headLane(other.queue)
      if (other === member || otherLane === undefined) return true
      return otherLane === lane ? other.used[lane] > used : otherLane === 'batch'
    })
    if (!isNext) return false
    member.used[run.lane] += ms
    run.lane = lane
    this.#serve(member, lane)
    return true
  }

  #release(member: Member, device: string, ms: number): void {
    const run = this.#runs.get(device)
    if (run?.member !== member) return
    this.#runs.delete(device)
    member.used[run.lane] += ms
    for (const { queue } of this.#inOrder()) {
      if (this.#runs.has(device)) return
      queue.feed()
    }
  }

  /** Those with work: callers' first, then whoever had less. */
  #inOrder(): Member[] {
    return lanes.flatMap((lane) =>
      this.#members
        .filter(({ queue }) => headLane(queue) === lane)
        .toSorted((a, b) => a.used[lane] - b.used[lane]),
    )
  }
}

/** Lane that a queue is served for next; undefined when nothing waits. */
export const headLane = (queue: Pick<TurnQueue, 'waiting'>): Lane | undefined =>
  lanes.find((lane) => queue.waiting(lane) > 0)
