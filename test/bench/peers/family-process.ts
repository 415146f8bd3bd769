/** An exported folder in a process: `node family-process.ts '{"folder": ..., "side": "loop" | "package", ...}'`. */
import { env } from 'onnxruntime-node'
import { openSubject, type SubjectSide } from '../families/subject.ts'
import { answerLines } from './answer.ts'

export interface FamilyProcessOptions {
  folder: string
  side: SubjectSide
  threads: number
  most: number
  ids: number
}

const { folder, side, ...options } = JSON.parse(process.argv[2]!) as FamilyProcessOptions
const subject = await openSubject(folder, { ...options, sides: [side] })
const run = side === 'loop' ? (batch: number) => subject.loop(batch, 0) : subject[side]!
await answerLines({ onnxruntime: env.versions.node ?? env.versions.common }, ({ batch }) => run(batch))
await subject.close()
