import { Command } from 'commander'
import type { ConfigRow } from '../../../infra/config.ts'
import { count, index, share } from '../options.ts'
import { settingOption } from '../settings.ts'
import type { CalibrateEnvironment, CalibrateFlags } from './environment.ts'
import { runCalibration } from './run.ts'

const details = `
Examples:
  npx turbine calibrate --images ./photos
  npx turbine calibrate --model ./blip-large --images './shoot-*/*.jpg' --min-exact 0.8 --device cuda:0
  npx turbine calibrate --images ./photos --dry-run
  npx turbine calibrate --images ./photos --speed-only

Give it pictures like those you will caption, some hundreds of them. It searches where tokens merge at the least cost
to the captions of these pictures, compared with those of the unpruned model: 60 % of the pictures choose the levels,
the others confirm them, and the quality in the table is theirs. Beside the model it writes

  turbine.json        the table of levels that "turbine serve" and "turbine caption" read
  turbine-levels.svg  what was tried, and the levels

and prints the table: tokens that are left, encoder FLOPs, images per second in full batches, the share of captions
that equal the unpruned ones, and CIDEr-D over that of equal captions.

Ctrl-C stops it; the same command goes on where it was. With a named --state other --levels and --min-exact take
seconds, as nothing is captioned twice for the same pictures. With several devices the first one is used.`

/** `turbine calibrate`. */
export function calibrateCommand(environment: CalibrateEnvironment, settings: ConfigRow[]): Command {
  return new Command('calibrate')
    .description("find a model's prune levels on your own pictures")
    .requiredOption('--images <inputs...>', 'folders, images, globs, addresses, JSONL manifests, or -')
    .option('--count <n>', 'pictures to use at most, a random choice of them', count, 500)
    .option('--levels <n>', 'levels at most, the unpruned one included', count, 8)
    .option('--min-exact <share>', 'share of equal captions at the hardest level worth having', share, 0.9)
    .option('--seed <n>', 'another number chooses and splits the pictures in another way', index, 1)
    .option('-o, --out <folder>', "where the table and its picture go (default: the model's folder)")
    .option(
      '--state <file>',
      'what a later run goes on from; stays when named (default: turbine-calibration.jsonl beside them)',
    )
    .option('--speed-only', 'measure the speeds of the table that is there again, on this device')
    .option('--dry-run', 'tell what would be done and how long it takes, and write nothing')
    .addOption(settingOption(settings, 'model'))
    .addOption(settingOption(settings, 'device'))
    .addHelpText('after', details)
    .action((flags: CalibrateFlags) => runCalibration(flags, environment))
}
