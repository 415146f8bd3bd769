import { expect, test } from 'vitest'
import { type ProfileEvent, profileLines, summariseProfile } from './profile.ts'

const node = (op_name: string, dur: number, provider = 'CUDAExecutionProvider'): ProfileEvent => ({
  cat: 'Node',
  ts: 0,
  name: `${op_name}_1_kernel_time`,
  dur,
  args: { op_name, provider },
})
const run: ProfileEvent = { cat: 'Session', name: 'model_run', ts: 0, dur: 9000 }
const from = (ts: number, events: ProfileEvent[]) => events.map((event) => ({ ...event, ts: ts + event.ts }))

test('a profile is summed for one of its runs, the first left out', () => {
  const cpu = 'CPUExecutionProvider'
  const ofOne = [
    node('Gemm', 3000),
    node('Gemm', 1000),
    node('Shape', 10, cpu),
    node('MemcpyToHost', 500),
    // Holds the others: its time is theirs.
    node('Loop', 5000),
    { cat: 'Node', name: 'Gemm_1_fence_before', ts: 0, dur: 7 },
    run,
  ]
  const summary = summariseProfile([node('Gemm', 100), run, ...from(10_000, ofOne), ...from(20_000, ofOne)])
  expect(summary).toEqual({
    providers: { CUDA: { count: 4, ms: 9.5 }, CPU: { count: 1, ms: 0.01 } },
    onCpu: { Shape: { count: 1, ms: 0.01 } },
    copies: { MemcpyToHost: { count: 1, ms: 0.5 } },
    dearest: [
      { operator: 'Gemm', count: 2, ms: 4 },
      { operator: 'MemcpyToHost', count: 1, ms: 0.5 },
      { operator: 'Shape', count: 1, ms: 0.01 },
    ],
  })
  expect(profileLines('base', summary).slice(0, 3)).toEqual([
    'base: nodes of a run by provider: CUDA 4 (9.5 ms), CPU 1 (0.0 ms)',
    '  on the CPU: Shape 1 (0.0 ms)',
    '  copies: MemcpyToHost 1 (0.5 ms)',
  ])
})

test('at most ten operators are listed', () => {
  const many = Array.from({ length: 30 }, (_, at) => node(`Op${at}`, at))
  const { dearest } = summariseProfile([run, ...from(10_000, [...many, run])])
  expect(dearest).toHaveLength(10)
  expect(dearest[0]!.operator).toBe('Op29')
})
