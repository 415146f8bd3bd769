import { z } from '@hono/zod-openapi'
import { maxJsonImageBytes } from '../../contract/caption.ts'
import { chatCompletion, chatCompletionSchema, chatRequestSchema } from '../../contract/chat.ts'
import { captionExample } from '../captions/routes.ts'
import {
  errorResponse,
  idempotencyErrors,
  idempotencyHeader,
  ignoredHeaders,
  jsonBody,
  jsonResponse,
  modelNotFound,
  operation,
  rejected,
  serviceErrors,
} from '../responses.ts'

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

const completion = jsonResponse('The caption.', chatCompletionSchema, chatCompletion(captionExample))

export const createChatCompletion = operation('post', '/v1/chat/completions', 'createChatCompletion', {
  summary: 'Caption the image of a chat',
  description:
    'For OpenAI clients. The messages hold one image (`image_url` as https, `data:` or `s3://`). A captioner follows no instructions: user text is accepted but not followed, except for a last assistant message, which the caption continues. ' +
    'Parameters that cannot be honoured are refused, or ignored where the service is set to, and then named in `x-turbine-ignored-parameters` and `turbine.ignored_parameters`. ' +
    'A caption that is not ready in time is 503 with `caption_pending` and still completes: a retry with the same `Idempotency-Key` gets it, and so does `GET` of the URL in `Location`. ' +
    'With `stream`, the caption is sent as it grows by models that make long text, and as one chunk by others. What fails after the first text is an event with the error, and the last one.',
  request: {
    headers: idempotencyHeader('A retry with the same key gets the result of the first request.'),
    body: jsonBody(chatRequestSchema, chatExample),
  },
  responses: {
    200: {
      ...completion,
      headers: ignoredHeaders,
      content: { ...completion.content, 'text/event-stream': { schema: z.string() } },
    },
    400: errorResponse(
      400,
      'image_missing',
      'No message holds an image.',
      'A field is missing or invalid, a parameter is not supported (`unsupported_parameter`) or unknown (`unknown_parameter`), or the image is missing, empty, broken, too large or unreachable.',
    ),
    404: modelNotFound,
    413: errorResponse(413, 'body_too_large', `The body is larger than ${maxJsonImageBytes} bytes.`),
    ...idempotencyErrors,
    ...serviceErrors,
    403: errorResponse(403, 's3_not_granted', 'This tenant may not read s3://photos/cat.jpg.'),
    429: rejected,
    503: errorResponse(
      503,
      'caption_pending',
      'The caption was not ready in time. It is still being processed.',
      'The caption was not ready in time, or the service is unavailable.',
    ),
  },
})
