import type { Backlog } from './backlog.ts'
import { sum, type Tally } from './deadline-order.ts'
import type { Line } from './queue.ts'
import { type ServingPlan, work } from './serving-plan.ts'

/** The images that a decision looks along. */
export interface Lineup {
  line: Line
  /** Images of other lines that are served before this one. */
  ahead?: Tally
  /** Images of this lane that are not in the line yet. */
  beyond?: readonly Backlog[]
  /** Whether work that is not done at its deadline is given up, as a batch is; default false. */
  expires?: boolean
}

/** An image, or the last one of a backlog, with all that is served before it. */
export interface Checkpoint {
  /** Unix ms. */
  deadline: number
  /** The hardest level that it may be run at. */
  hardest: number
  /** Images of backlogs up to it, which have to be decoded first. */
  undecoded: number
  /** When it is done if everything up to it is served at `level`, ms from now. */
  finish(level: number): number
}

/**
 * Calls `visit` for the deadlines of a lineup: those of its backlogs, then those along its line. Both are served
 * together in the order of their deadlines, of equal ones the line first. A long line is visited as `DeadlineOrder.walk`
 * does. The checkpoint is reused between calls.
 */
export function eachDeadline(
  { line, ahead = [], beyond = [], expires = false }: Lineup,
  { plan, now }: { plan: ServingPlan; now: number },
  visit: (checkpoint: Checkpoint) => void,
): void {
  const nothing: Cumulated = { images: 0, workMs: plan.msPerImage.map(() => 0) }
  let images = 0
  let tally: Tally = []
  let before = nothing
  const checkpoint: Checkpoint = {
    deadline: 0,
    hardest: 0,
    undecoded: 0,
    finish: (level) => {
      const workMs = work(tally, plan.msPerImage, level) + before.workMs[level]!
      return plan.finish(level, images + before.images, workMs)
    },
  }

  const hasTime = ({ deadline, hardest }: Backlog) => deadline - now >= plan.soonest[hardest]!
  const backlogs = (expires ? beyond.filter(hasTime) : [...beyond]).sort((a, b) => a.deadline - b.deadline)
  const tallies = line.aheadOfEach(
    backlogs.map(({ deadline }) => deadline),
    ahead,
  )
  const leftBehind = backlogs.map((backlog, index) => {
    tally = tallies[index]!
    images = sum(tally)
    before = withBacklog(before, backlog, plan)
    checkpoint.deadline = backlog.deadline
    checkpoint.hardest = backlog.hardest
    checkpoint.undecoded = before.images
    visit(checkpoint)
    if (expires) before = endingAt(before, (backlog.deadline - now) * plan.devices)
    return before
  })

  let passed = 0
  before = nothing
  checkpoint.undecoded = 0
  line.walk((place, rank, tallyUpTo) => {
    while (passed < backlogs.length && backlogs[passed]!.deadline < place.due) before = leftBehind[passed++]!
    tally = tallyUpTo
    images = rank
    checkpoint.deadline = place.deadline
    checkpoint.hardest = place.hardest
    visit(checkpoint)
  }, ahead)
}

/** The backlogs due up to some deadline. */
interface Cumulated {
  images: number
  /** Their device time by level, ms. */
  workMs: readonly number[]
}

function withBacklog(
  before: Cumulated,
  { images, hardest }: Backlog,
  { msPerImage }: ServingPlan,
): Cumulated {
  return {
    images: before.images + images,
    workMs: before.workMs.map((ms, level) => ms + images * msPerImage[Math.min(hardest, level)]!),
  }
}

/** What is not done when this much device time has passed is given up: it keeps no later work waiting. */
function endingAt({ images, workMs }: Cumulated, leftMs: number): Cumulated {
  return { images, workMs: workMs.map((ms) => Math.min(ms, Math.max(0, leftMs))) }
}
