import type { OpenAPIHono } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** `/v1/files`: upload, list, retrieve, content, delete, in OpenAI's shapes. */
export function addFiles(_app: OpenAPIHono<EdgeEnv>, _deps: EdgeDeps): void {}
