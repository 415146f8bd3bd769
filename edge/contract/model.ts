import { z } from '@hono/zod-openapi'

const modelStates = ['ready', 'waiting', 'stopped'] as const
export type ModelState = (typeof modelStates)[number]

/** Served model in OpenAI's format, with its prune levels. `created` is in unix seconds. */
export const modelSchema = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int(),
    owned_by: z.string(),
    turbine: z.object({
      image_size: z.int().openapi({ description: "Side of the encoder's square input, pixels." }),
      device: z.string().openapi({ description: 'Device that runs it, e.g. `cpu` or `cuda:0`.' }),
      state: z.enum(modelStates).optional().openapi({
        description:
          '`ready`: a processor serves it. `waiting`: none has for some minutes; requests wait for one. `stopped`: none has for a day; batches wait for one, and other requests are 503.',
      }),
      last_seen_at: z.int().optional().openapi({
        description: 'Time at which a processor last announced it, unix seconds. Absent on one machine.',
      }),
      max_output_tokens: z.int().optional().openapi({
        description: 'Maximum tokens of a caption without a prompt, its end included.',
      }),
      alias_of: z.string().optional().openapi({
        description: 'The model that this name stands for; absent for a model.',
      }),
      tokens_in: z.int().openapi({ description: 'Tokens that enter the encoder, CLS included.' }),
      prune_levels: z
        .array(
          z.object({
            level: z.int(),
            prune_ratio: z.number().openapi({ description: 'Share of image tokens merged.' }),
            tokens_out: z.int().openapi({ description: 'Tokens that leave the encoder, CLS included.' }),
          }),
        )
        .openapi({ description: 'Ascending in tokens merged; level 0 is the unpruned model.' }),
    }),
  })
  .openapi('Model')

export type ModelSummary = z.infer<typeof modelSchema>

export const modelListSchema = z
  .object({ object: z.literal('list'), data: z.array(modelSchema) })
  .openapi('ModelList')

/** Announcement of a model by the processors that serve it; refreshed while any of them runs. */
export const servedModelSchema = z.object({
  model: modelSchema,
  /** Images per second that a processor serves unpruned. */
  throughput: z.number(),
  /** Unix ms. */
  seenAt: z.number(),
})
export type ServedModel = z.infer<typeof servedModelSchema>

/** Interval of the announcements of a model, ms. */
export const announceModelMs = 20_000
/** A model counts as ready this long after its last announcement, ms: some are missed, and clocks differ. */
const readyModelMs = 180_000
/** Jobs for a model are accepted this long after its last announcement, ms: they wait safely in the stream. */
const waitModelMs = 24 * 3_600_000

/** State of a model by its last announcement, unix ms. */
export function modelState(seenAt: number, now: number): ModelState {
  const age = now - seenAt
  if (age < readyModelMs) return 'ready'
  return age < waitModelMs ? 'waiting' : 'stopped'
}

/** Models by other names that callers may use for them; `*` stands for any name that is neither. */
export type ModelAliases = Readonly<Record<string, string>>

/**
 * The model that a name stands for; the name itself, where it is no alias.
 * @example modelOf('gpt-4o-mini', { 'gpt-4o-mini': 'blip-base' }) // 'blip-base'
 */
export function modelOf(name: string, aliases: ModelAliases = {}): string {
  if (Object.hasOwn(aliases, name)) return aliases[name]!
  return Object.values(aliases).includes(name) ? name : (aliases['*'] ?? name)
}
