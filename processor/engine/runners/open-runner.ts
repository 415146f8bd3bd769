import type { InferenceSession } from 'onnxruntime-node'
import type { RunnerPlan, SessionGraphs } from '../../models/model.ts'
import { openSession, type SessionOptions } from '../../onnx/session.ts'
import { CaptionerRunner } from './captioner.ts'
import { GeneratingRunner } from './generating.ts'
import type { Runner } from './runner.ts'
import { TaggerRunner } from './tagger.ts'

type Sessions = Readonly<Record<string, InferenceSession>>
type Runners = {
  [Kind in RunnerPlan['kind']]: (sessions: Sessions, plan: Extract<RunnerPlan, { kind: Kind }>) => Runner
}

/** Runners by the kind of their plan. */
const runners: Runners = {
  captioner: ({ caption }, plan) => new CaptionerRunner(caption!, plan),
  'vision-language': ({ vision, generate }, plan) =>
    new GeneratingRunner({ vision: vision!, generate: generate! }, plan),
  'encoder-decoder': ({ vision, generate }, plan) =>
    new GeneratingRunner({ vision: vision!, generate: generate! }, plan),
  tagger: ({ vision }, plan) => new TaggerRunner(vision!, plan),
}

/** Opens the sessions of a model, and what runs them. */
export async function openRunner(
  plan: RunnerPlan,
  graphs: SessionGraphs,
  options: SessionOptions,
): Promise<Runner> {
  const sessions: Record<string, InferenceSession> = {}
  // One after the other: each takes all cores and its most memory while it is opened.
  for (const [name, { graph, folder }] of Object.entries(graphs))
    sessions[name] = await openSession(graph, folder, options)
  return (runners[plan.kind] as (sessions: Sessions, plan: RunnerPlan) => Runner)(sessions, plan)
}
