import { expect, test } from 'vitest'
import { jobTopic, topics } from '../../edge/contract/topics.ts'
import type { TopicOptions } from '../../infra/stream/stream.ts'
import type { TopicReport } from '../../infra/stream/topics.ts'
import { Printed, runCommand } from './command.fixture.ts'
import { topicsCommand } from './topics.ts'

async function run(args: string[], reports: TopicReport[] = []) {
  const printed = new Printed()
  const calls: [string, Record<string, TopicOptions>][] = []
  const command = topicsCommand({
    defaultPartitions: () => 5,
    createTopics: async (layout) => calls.push(['create', layout]),
    checkTopics: async (layout) => {
      calls.push(['check', layout])
      return reports
    },
    stdout: printed.out,
  })
  const code = await runCommand(command, args, printed)
  return { code, calls, stdout: printed.stdout, stderr: printed.stderr }
}

const good: TopicReport = { topic: topics.batch, ok: true, partitions: 12, findings: [] }

test('topics are checked unless they are to be created', async () => {
  expect((await run([])).calls.map(([name]) => name)).toEqual(['check'])
  expect((await run(['check'])).calls.map(([name]) => name)).toEqual(['check'])
  expect((await run(['create'])).calls.map(([name]) => name)).toEqual(['create', 'check'])
})

test('the number of partitions is that of the option, else that of the setting', async () => {
  const partitions = async (args: string[]) => (await run(args)).calls[0]![1][topics.batch]!.partitions
  expect(await partitions([])).toBe(5)
  expect(await partitions(['create', '--partitions', '48'])).toBe(48)
})

test('models named have topics of their own, beside those that all share', async () => {
  const { calls } = await run(['create', '--model', 'owner/a', '--model', 'b', '--partitions', '48'])
  const layout = calls[0]![1]
  const own = ['owner/a', 'b'].flatMap((id) => [jobTopic('interactive', id), jobTopic('batch', id)])
  for (const { topic, group } of own) expect(layout[topic]).toMatchObject({ partitions: 48, groups: [group] })
  expect(Object.keys(layout)).toHaveLength(4 + own.length)
  expect((await run(['create', '--model', 'x'.repeat(300)])).code).toBe(2)
})

test('a table says how each topic is', async () => {
  const { code, stdout } = await run([], [good])
  expect(code).toBe(0)
  expect(stdout).toBe('topic          partitions  state\nturbine.batch          12  ok\n')
})

test('what is wrong is told with its remedy, and the exit code is 1', async () => {
  const findings = ['It is missing. Run "npx turbine topics create".', 'Another thing.']
  const { code, stdout, stderr } = await run([], [good, { topic: topics.control, ok: false, findings }])
  expect(code).toBe(1)
  expect(stdout).toMatch(/\nturbine\.control +- {2}It is missing\. .*\n +Another thing\.\n$/)
  expect(stderr).toBe('turbine: 1 of 2 topics not ok.\n')
})

test('an unknown action is wrong usage', async () => {
  expect((await run(['delete'])).code).toBe(2)
  expect((await run(['--help'])).stdout).toContain('Examples:')
})
