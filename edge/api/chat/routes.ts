import { createRoute, z } from '@hono/zod-openapi'
import { pruningSchema } from '../../contract/caption.ts'
import { type ChatCompletion, chatCompletion, chatRequestSchema } from '../../contract/chat.ts'
import { captionExample } from '../captions/routes.ts'
import { errorResponse, idempotencyErrors, imageTooLarge, serviceErrors, turnedAway } from '../responses.ts'

const usageSchema = z.object({
  prompt_tokens: z.int().openapi({ description: 'Image tokens that entered the encoder.' }),
  completion_tokens: z.int(),
  total_tokens: z.int(),
})

const chatCompletionSchema = z
  .object({
    id: z.string(),
    object: z.literal('chat.completion'),
    created: z.int(),
    model: z.string(),
    choices: z.array(
      z.object({
        index: z.literal(0),
        message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        logprobs: z.null(),
        finish_reason: z.literal('stop'),
      }),
    ),
    usage: usageSchema,
    turbine: pruningSchema,
  })
  .openapi('ChatCompletion')

export const chatExample = {
  model: 'starter',
  messages: [
    {
      role: 'user',
      content: [
        { type: 'text', text: 'What is in this image?' },
        { type: 'image_url', image_url: { url: 'https://example.com/photo.jpg' } },
      ],
    },
  ],
} satisfies z.input<typeof chatRequestSchema>

const completion: ChatCompletion = chatCompletion(captionExample)

export const createChatCompletion = createRoute({
  method: 'post',
  path: '/v1/chat/completions',
  operationId: 'createChatCompletion',
  tags: ['chat'],
  summary: 'Caption the image of a chat',
  description:
    'For clients that speak to OpenAI. The messages hold one image (`image_url` as https, `data:` or `s3://`). A captioner follows no instructions: texts are not read, but for a last message of the assistant, which the caption continues. ' +
    'A caption that is not there in time is 503 with `caption_pending`, and goes on: a repeat with the same `Idempotency-Key` is given it, and so is `GET` of the address in `Location`. ' +
    'With `stream` the caption comes as one chunk.',
  request: {
    headers: z.object({
      'idempotency-key': z
        .string()
        .optional()
        .openapi({ description: 'A repeat is given what the first request asked for.' }),
    }),
    body: {
      required: true,
      content: { 'application/json': { schema: chatRequestSchema, example: chatExample } },
    },
  },
  responses: {
    200: {
      description: 'The caption.',
      content: {
        'application/json': { schema: chatCompletionSchema, example: completion },
        'text/event-stream': { schema: z.string() },
      },
    },
    400: errorResponse(
      400,
      'image_missing',
      'No message holds an image.',
      'A field is missing or wrong, or the image is missing, empty, broken or out of reach.',
    ),
    404: errorResponse(404, 'model_not_found', 'There is no model "other". Served: starter.'),
    413: imageTooLarge,
    415: errorResponse(415, 'image_invalid', 'The bytes are a PDF document.'),
    ...idempotencyErrors,
    ...serviceErrors,
    403: errorResponse(403, 's3_not_granted', 'This tenant may not read s3://photos/cat.jpg.'),
    429: turnedAway,
    503: errorResponse(
      503,
      'caption_pending',
      'The caption was not there in time. It goes on.',
      'The caption was not there in time, or the service cannot take requests now.',
    ),
  },
})
