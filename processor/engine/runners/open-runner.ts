import type { RunnerPlan, SessionGraph, SessionGraphs } from '../../models/model.ts'
import { openSession, type SessionOptions } from '../../onnx/session.ts'
import { CaptionerRunner } from './captioner.ts'
import { GeneratingRunner } from './generating.ts'
import { OnDemand } from './on-demand.ts'
import type { Runner } from './runner.ts'
import { TaggerRunner } from './tagger.ts'

type Sessions = Readonly<Record<string, OnDemand>>
type Runners = {
  [Kind in RunnerPlan['kind']]: (
    sessions: Sessions,
    plan: Extract<RunnerPlan, { kind: Kind }>,
  ) => Runner | Promise<Runner>
}

/** Runners by the kind of their plan. */
const runners: Runners = {
  captioner: async ({ caption, ...stepwise }, plan) =>
    new CaptionerRunner(await caption!.get(), plan, stepwise),
  'vision-language': async ({ vision, generate }, plan) =>
    new GeneratingRunner({ vision: await vision!.get(), generate: generate! }, plan),
  'encoder-decoder': async ({ vision, generate, ...beams }, plan) =>
    new GeneratingRunner({ vision: await vision!.get(), generate: generate!, beams }, plan),
  tagger: async ({ vision }, plan) => new TaggerRunner(await vision!.get(), plan),
}

/** Opens the sessions of a model, and what runs them. */
export async function openRunner(
  plan: RunnerPlan,
  graphs: SessionGraphs,
  options: SessionOptions,
): Promise<Runner> {
  const open = ({ graph, folder }: SessionGraph) => new OnDemand(() => openSession(graph, folder, options))
  const sessions = Object.fromEntries(Object.entries(graphs).map(([name, graph]) => [name, open(graph)]))
  // One after the other: each takes all cores and its most memory while it is opened.
  for (const [name, { onDemand }] of Object.entries(graphs)) if (!onDemand) await sessions[name]!.get()
  return (runners[plan.kind] as Runners['captioner'])(sessions, plan as never)
}
