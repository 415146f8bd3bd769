import { z } from '@hono/zod-openapi'
import { excerpt } from './errors.ts'

const modelStates = ['ready', 'waiting', 'stopped'] as const
export type ModelState = (typeof modelStates)[number]

/** What a model does with text: nothing, one of its own tasks, or what the text asks. */
const followed = ['none', 'tasks', 'instructions'] as const

/** What a model can, of what a request may ask. */
export const capabilitiesSchema = z.object({
  family: z.string().max(100).openapi({ description: 'Kind of the model, e.g. `blip`.' }),
  follows_text: z.enum(followed).openapi({
    description:
      'What becomes of the text of a request. `instructions`: the model follows it. `tasks`: it names one of `tasks`. `none`: it is not read, and a `prompt` is the beginning of the caption.',
  }),
  tasks: z
    .array(z.string().max(100))
    .max(100)
    .optional()
    .openapi({ description: 'Tasks that the model was trained on, by the names that a request has.' }),
  text_tasks: z
    .array(z.string().max(100))
    .max(100)
    .optional()
    .openapi({ description: 'Those of them that read a text, too. Absent: none.' }),
  max_images: z.int().min(1).openapi({ description: 'Maximum images of one request.' }),
  max_pixels: z.int().min(1).optional().openapi({
    description:
      'Maximum pixels of a picture that the model sees, of models for which a request can lower it.',
  }),
  parameters: z
    .array(z.string().max(100))
    .max(100)
    .openapi({ description: 'Generation parameters that are honoured.' }),
  output: z.enum(['caption', 'tags']).openapi({
    description: '`tags`: the caption is made of the tags in `turbine.tags`.',
  }),
})
export type Capabilities = z.infer<typeof capabilitiesSchema>

/** What a model can that was announced without it: earlier versions served one family. */
export const blipCapabilities: Capabilities = {
  family: 'blip',
  follows_text: 'none',
  max_images: 1,
  parameters: [],
  output: 'caption',
}

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
      precision: z.string().max(100).optional().openapi({
        description:
          'What it computes in: `float32`, `float16`, or `int8` for linear layers in int8; else the type of its weights, e.g. `q8`.',
      }),
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
      ...capabilitiesSchema.partial().shape,
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

/** What an announced model can. */
export const capabilitiesOf = ({ turbine }: ModelSummary): Capabilities => {
  const read = capabilitiesSchema.safeParse(turbine)
  return read.success ? read.data : blipCapabilities
}

/** A model in errors: what it is called, and what it is. */
export const modelInWords = (id: string, { family }: Capabilities) =>
  `the model "${excerpt(id)}" (${excerpt(family, 40)})`

export const modelListSchema = z
  .object({ object: z.literal('list'), data: z.array(modelSchema) })
  .openapi('ModelList')

/** Announcement of a model by the processors that serve it; refreshed while any of them runs. */
export const servedModelSchema = z.object({
  model: modelSchema,
  /** Images per second that a processor serves unpruned. */
  throughput: z.number(),
  /** Its jobs are in topics of its own; default: in those that are shared. */
  ownTopics: z.boolean().optional(),
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
