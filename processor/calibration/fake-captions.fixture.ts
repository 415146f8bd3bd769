import type { EncoderShape } from '../turbo/flops.ts'
import type { Schedule } from '../turbo/schedule.ts'

export const fakeEncoder: EncoderShape = { tokens: 197, layers: 6, width: 64, mlpWidth: 256, heads: 4 }

/** Cost of a merged token by layer: high in late ones, and in the second more than in its neighbours. */
const sensitivity = [0.3, 0.9, 0.2, 0.8, 1.6, 3]

/** Cost of a schedule; a semantic weight in early layers adds to it. */
export const damage = ({ r, weight }: Schedule): number =>
  r.reduce(
    (sum, value, layer) => sum + value * (sensitivity[layer]! + (layer < 3 ? weight[layer]! / 50 : 0)),
    0,
  )

/** A model as a pure function: the caption of a picture loses a word when a schedule costs more than it bears. */
export function fakeCaption(picture: number, schedule: Schedule): string {
  // Pictures bear between 40 and 90, spread evenly over any run of them.
  const bears = 40 + 50 * ((picture * 0.618_034) % 1)
  const words = [`a thing ${picture % 7} of kind ${picture % 11}`, `in place ${picture % 5}`]
  return damage(schedule) > bears ? words[0]! : words.join(' ')
}
