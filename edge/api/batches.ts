import type { OpenAPIHono } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/** `/v1/batches`: create, list, retrieve, cancel, in OpenAI's shapes. */
export function addBatches(_app: OpenAPIHono<EdgeEnv>, _deps: EdgeDeps): void {}
