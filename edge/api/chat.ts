import type { OpenAPIHono } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** `POST /v1/chat/completions`, in OpenAI's shapes. */
export function addChat(_app: OpenAPIHono<EdgeEnv>, _deps: EdgeDeps): void {}
