import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { describeConfig } from '../../../infra/config.ts'
import { readImageFile } from '../../../infra/fetch/image-file.ts'
import { type Calibrator, startCalibrator } from '../../calibration/calibrator.ts'
import { fakeCaption, fakeEncoder } from '../../calibration/fake-captions.fixture.ts'
import { readLevels, readLevelTable, writeLevelTable } from '../../models/levels.ts'
import { openModel } from '../../models/open-model.ts'
import { tinyBlip } from '../../models/tiny-blip.fixture.ts'
import { flopShare } from '../../turbo/flops.ts'
import { perLayer } from '../../turbo/schedule.ts'
import { Printed, runCommand } from '../command.fixture.ts'
import { FakeSignals } from '../signals.fixture.ts'
import { calibrateCommand } from './command.ts'
import type { CalibrateEnvironment } from './environment.ts'

let folder: string
let pictures: string
let out: string

const picture = { kind: 'squash', height: 8, width: 8, resample: 'bicubic' } as const
const imageBytes = 8 * 8 * 3

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-calibrate-'))
  pictures = join(folder, 'pictures')
  await mkdir(pictures)
  for (let number = 0; number < 60; number++)
    await writeFile(join(pictures, `${number}.png`), await greyPicture(number))
})
afterAll(() => rm(folder, { recursive: true }))
beforeEach(async () => {
  out = await mkdtemp(join(folder, 'out-'))
})

/** A picture whose every value is its number. */
const greyPicture = (number: number) =>
  sharp(new Uint8Array(imageBytes).fill(number), { raw: { width: 8, height: 8, channels: 3 } })
    .png()
    .toBuffer()

/** A model as a pure function of the pictures' numbers, whose speed follows the FLOPs. */
const runFake: Calibrator['run'] = async ({ pictures }, schedule) => ({
  captions: pictures.map(({ pixels }) => fakeCaption(pixels[0]!, schedule)),
  inferenceMs: 10 * flopShare(fakeEncoder, schedule.r),
})

const fakeCalibrator = (run = runFake): Calibrator => ({
  model: { id: 'fake', folder: out, picture, encoder: fakeEncoder },
  modelDigest: 'digest',
  device: 'cpu, float32',
  batch: 4,
  run,
  close: async () => {},
})

interface Given extends Partial<CalibrateEnvironment> {
  /** Runs a batch of the fake model. */
  run?: Calibrator['run']
}

async function calibrate(args: string[], { run, ...environment }: Given = {}) {
  const printed = new Printed()
  const command = calibrateCommand(
    {
      openCalibrator: async () => fakeCalibrator(run),
      readImage: readImageFile,
      stdin: (async function* () {})(),
      stdout: printed.out,
      stderr: printed.err,
      signals: new FakeSignals(),
      ...environment,
    },
    describeConfig(),
  )
  const code = await runCommand(command, args, printed)
  return { code, stdout: printed.stdout, stderr: printed.stderr }
}

/** Content of a table without its times. */
async function tableIn(where: string) {
  const { calibration, levels } = (await readLevelTable(where))!
  return { levels, pictures: calibration!.pictures, speeds: calibration!.speed.images_per_second }
}

describe('turbine calibrate', () => {
  it('tells its options and gives examples', async () => {
    const { code, stdout } = await calibrate(['--help'])
    expect(code).toBe(0)
    for (const option of ['--images', '--min-exact', '--state', '--speed-only', '--dry-run', '--device'])
      expect(stdout).toContain(option)
    expect(stdout).toContain('npx turbine calibrate --images ./photos')
  })

  it('writes the table and its picture beside the model, prints it, and leaves nothing else', async () => {
    const { code, stdout, stderr } = await calibrate(['--images', pictures, '--min-exact', '0.6'])
    expect([code, stderr]).toEqual([0, expect.stringContaining('Wrote ')])
    expect((await readdir(out)).sort()).toEqual(['turbine-levels.svg', 'turbine.json'])
    expect(await readFile(join(out, 'turbine-levels.svg'), 'utf8')).toContain('Prune levels of fake')
    const levels = await readLevels(out, fakeEncoder)
    expect(levels.length).toBeGreaterThan(2)
    expect(levels[0]).toMatchObject({ pruneRatio: 0, quality: { exact: 1, cider: 1 } })
    expect(levels.at(-1)!.quality!.exact).toBeLessThan(1)
    const { pictures: parts, speeds } = await tableIn(out)
    expect(parts).toEqual({ search: 36, held_out: 24 })
    expect(speeds).toHaveLength(levels.length)
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]).toMatch(/level +tokens +merged +FLOPs +images\/s +equal captions +CIDEr-D/)
    expect(lines).toHaveLength(1 + levels.length)
    expect(lines[1]).toMatch(/^ +0 +197 +0 % +100 % +400 +100\.0 % +100\.0 %$/)
  })

  it('says what it took, and takes no more pictures than fit into memory', async () => {
    let time = 0
    const { code, stderr } = await calibrate(['--images', pictures, '--min-exact', '0.6'], {
      pictureBytes: 30 * imageBytes,
      peakMemory: () => 123_000_000,
      now: () => (time += 65_000),
    })
    expect(code).toBe(0)
    expect(stderr).toContain('30 pictures fit into memory, decoded; 30 of those chosen are left out.')
    expect(stderr).toContain('It took 1 min 5 s, and 123 MB of memory at most.')
    expect((await tableIn(out)).pictures).toEqual({ search: 18, held_out: 12 })
  })

  it('compares tags as tags, and resumes only what was asked alike', async () => {
    const asking = (request?: { text: string }, tags = false) => ({
      openCalibrator: async () => ({ ...fakeCalibrator(), request, tags }),
    })
    const args = ['--images', pictures, '--min-exact', '0.5', '--state', join(out, 'state.jsonl')]
    const tagged = await calibrate(args, asking(undefined, true))
    expect(tagged.stdout).toMatch(/equal tags +tags in common\n/)
    expect((await calibrate(args, asking())).stderr).toContain('Resuming from')
    expect((await calibrate(args, asking({ text: 'Which colour?' }))).stderr).not.toContain('Resuming from')
    expect((await readLevelTable(out))!.calibration!.asked).toEqual({ text: 'Which colour?' })
  })

  it('goes on after a kill and gives the same table', async () => {
    const args = ['--images', pictures, '--min-exact', '0.6', '--out']
    await calibrate([...args, out])
    const killed = await mkdtemp(join(folder, 'out-'))
    let runs = 0
    const dying: Calibrator['run'] = (batch, schedule) => {
      if (++runs > 300) throw new Error('The power went.')
      return runFake(batch, schedule)
    }
    const first = await calibrate([...args, killed], { run: dying })
    expect([first.code, first.stderr]).toEqual([1, expect.stringContaining('The power went.')])
    expect(await readdir(killed)).toEqual(['turbine-calibration.jsonl'])
    const again = await calibrate([...args, killed])
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining('Resuming from')])
    expect(await tableIn(killed)).toEqual(await tableIn(out))
  })

  it('captions nothing twice for other levels when the state is named', async () => {
    const args = ['--images', pictures, '--min-exact', '0.6', '--state', join(out, 'state.jsonl')]
    let runs = 0
    const counted: Calibrator['run'] = (batch, schedule) => {
      runs++
      return runFake(batch, schedule)
    }
    await calibrate(args, { run: counted })
    const all = runs
    expect(await calibrate([...args, '--levels', '4'], { run: counted })).toMatchObject({ code: 0 })
    expect((await tableIn(out)).levels.length).toBeLessThanOrEqual(4)
    // Held-out pictures of the levels that are new, and the speeds.
    expect(runs - all).toBeLessThan(all / 5)
  })

  it('starts anew with another model, and with other pictures', async () => {
    const args = ['--state', join(out, 'state.jsonl'), '--images', pictures]
    let runs = 0
    const dying: Calibrator['run'] = (batch, schedule) => {
      if (++runs % 5 === 0) throw new Error('The power went.')
      return runFake(batch, schedule)
    }
    const goesOn = async (more: string[] = [], modelDigest = 'digest') => {
      const openCalibrator = async () => ({ ...fakeCalibrator(dying), modelDigest })
      const { stderr } = await calibrate([...args, ...more], { openCalibrator })
      expect(stderr).toContain('The power went.')
      return stderr.includes('Resuming from')
    }
    expect([await goesOn(), await goesOn()]).toEqual([false, true])
    expect([await goesOn([], 'other'), await goesOn([], 'other')]).toEqual([false, true])
    expect([await goesOn(['--count', '50']), await goesOn(['--count', '50'])]).toEqual([false, true])
  })

  it('stops at a signal and says how to go on', async () => {
    const signals = new FakeSignals()
    const interrupted: Calibrator['run'] = (batch, schedule) => {
      signals.emit('SIGINT', 'SIGINT')
      return runFake(batch, schedule)
    }
    const { code, stderr } = await calibrate(['--images', pictures], { signals, run: interrupted })
    expect([code, stderr]).toEqual([130, expect.stringContaining('Run the same command again to resume.')])
  })

  it('--speed-only measures again and leaves the levels as they are', async () => {
    await calibrate(['--images', pictures, '--min-exact', '0.6'])
    const before = await tableIn(out)
    const { code, stdout } = await calibrate(['--images', pictures, '--speed-only'], {
      run: async () => ({ captions: [], inferenceMs: 8 }),
    })
    expect([code, stdout.split('\n')[1]]).toEqual([0, expect.stringMatching(/ 500 /)])
    expect(await tableIn(out)).toEqual({ ...before, speeds: before.levels.map(() => 500) })
  })

  it('--speed-only wants a calibrated table', async () => {
    const none = perLayer(0, fakeEncoder.layers)
    await writeLevelTable(out, { levels: [{ r: none, weight: none }] })
    const { code, stderr } = await calibrate(['--images', pictures, '--speed-only'])
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/is not a calibrated table.*without --speed-only/),
    ])
  })

  it('--dry-run tells the plan of a real model and writes nothing', async () => {
    const model = await openModel(tinyBlip)
    const device = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
    const openCalibrator = () =>
      startCalibrator({ model, device, precision: 'float32', batch: 4, intraOpThreads: 1 })
    const { code, stdout } = await calibrate(['--images', pictures, '--out', out, '--dry-run'], {
      openCalibrator,
    })
    expect(code).toBe(0)
    expect(stdout).toMatch(/^Model tiny-blip on cpu, float32: 36 pictures to choose levels, 24 to confirm/)
    expect(stdout).toMatch(/About [\d,]+ captions at most, up to /)
    expect(await readdir(out)).toEqual([])
  })

  it('finds levels of an exported model, which it then opens with', async () => {
    const few = await mkdtemp(join(folder, 'few-'))
    for (let number = 0; number < 20; number++)
      await writeFile(join(few, `${number}.png`), await greyPicture(12 * number))
    const copy = await mkdtemp(join(folder, 'model-'))
    const tagger = new URL('../../../test/fixtures/models/wd-tagger/', import.meta.url)
    await cp(tagger, copy, { recursive: true })
    const model = await openModel(copy)
    const device = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
    const openCalibrator = async (): Promise<Calibrator> => {
      const calibrator = await startCalibrator({
        ...{ model, device, precision: 'float32', batch: 4, intraOpThreads: 1 },
      })
      // Tags are the model's; times are not this machine's.
      return {
        ...calibrator,
        run: async (batch, schedule) => ({
          ...(await calibrator.run(batch, schedule)),
          inferenceMs: 10 * flopShare(model.encoder, schedule.r),
        }),
      }
    }
    const args = ['--images', few, '--levels', '3', '--min-exact', '0.1']
    const { code, stdout } = await calibrate(args, { openCalibrator })
    expect([code, stdout]).toEqual([0, expect.stringMatching(/equal tags +tags in common/)])
    const { levels } = await openModel(copy)
    expect(levels.length).toBeGreaterThan(1)
    expect(levels.at(-1)).toMatchObject({ quality: { exact: expect.any(Number) } })
  })

  it('names pictures that cannot be read, and goes on with the others', async () => {
    const broken = await mkdtemp(join(folder, 'broken-'))
    for (let i = 0; i < 7; i++) await writeFile(join(broken, `${i}.jpg`), 'no picture')
    const { code, stderr } = await calibrate(['--images', pictures, broken, '--dry-run'])
    expect(code).toBe(0)
    expect(stderr.match(/\d\.jpg: /g)).toHaveLength(5)
    expect(stderr).toContain('... and 2 more are unreadable.')
  })

  it('refuses too few pictures; equal ones count once', async () => {
    const few = await mkdtemp(join(folder, 'few-'))
    const bytes = await greyPicture(1)
    for (let i = 0; i < 30; i++) await writeFile(join(few, `${i}.png`), bytes)
    const { code, stderr } = await calibrate(['--images', few])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^turbine: Calibration needs at least 20 different pictures, got 1\./)
  })

  it('refuses a folder that cannot be written before it works for minutes', async () => {
    const file = join(folder, 'a-file')
    await writeFile(file, '')
    const { code, stderr } = await calibrate(['--images', pictures, '--out', file])
    expect([code, stderr]).toEqual([
      2,
      expect.stringMatching(/is not writable\. Choose another one with --out/),
    ])
  })

  it('writes no table when no schedule is good enough', async () => {
    const fragile: Calibrator['run'] = async ({ count }, { r }) => ({
      captions: new Array<string>(count).fill(r.some((value) => value > 0) ? 'pruned' : 'unpruned'),
      inferenceMs: 1,
    })
    const { code, stderr } = await calibrate(['--images', pictures], { run: fragile })
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/keeps 0\.9 of the captions.*Lower --min-exact/),
    ])
    expect(await readdir(out)).toEqual(['turbine-calibration.jsonl'])
  })

  it('wants more than one level', async () => {
    const { code, stderr } = await calibrate(['--images', pictures, '--levels', '1'])
    expect([code, stderr]).toEqual([2, expect.stringContaining('--levels must be at least 2, got 1')])
  })
})
