import type { OpenAPIHono } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** `/v1/uploads`: files in parts, in OpenAI's shapes. */
export function addUploads(_app: OpenAPIHono<EdgeEnv>, _deps: EdgeDeps): void {}
