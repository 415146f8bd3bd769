import { Command, Option } from 'commander'
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

Use some hundreds of pictures like those you will caption. The search finds where tokens can merge at the least cost to
their captions, compared with the unpruned model. 60 % of the pictures choose the levels; the others confirm them and
give the quality in the table. It writes next to the model

  turbine.json        table of levels for "turbine serve" and "turbine caption"
  turbine-levels.svg  chart of candidates and levels

and prints the table: remaining tokens, encoder FLOPs, images per second in full batches, the share of captions equal to
the unpruned ones, and CIDEr-D relative to that of equal captions. Of a tagger it is the share of images with equal tags,
and the share of tags in common. Ask what you will ask with --prompt: levels are for the captions that it gives.

Run the same command again to resume after Ctrl-C. With a named --state, other values of --levels and --min-exact take
seconds, since no picture is captioned twice. With several devices the first one is used.`

/** `turbine calibrate` */
export function calibrateCommand(environment: CalibrateEnvironment, settings: ConfigRow[]): Command {
  return new Command('calibrate')
    .description("calibrate a model's prune levels on your own pictures")
    .requiredOption('--images <inputs...>', 'folders, images, globs, URLs, JSONL manifests, or -')
    .option('--count <n>', 'maximum number of pictures, chosen at random', count, 500)
    .option('--levels <n>', 'maximum number of levels, including the unpruned one', count, 8)
    .option('--min-exact <share>', 'lowest share of equal captions of a level', share, 0.9)
    .option('--seed <n>', 'random seed for choosing and splitting the pictures', index, 1)
    .option('-o, --out <folder>', "folder for the table and the chart (default: the model's folder)")
    .option(
      '--state <file>',
      'state file to resume from; kept if given (default: turbine-calibration.jsonl in that folder)',
    )
    .addOption(
      new Option('--speed-only', 'only measure the speeds of an existing table on this device').conflicts([
        'levels',
        'minExact',
        'dryRun',
      ]),
    )
    .option('--dry-run', 'print the plan and its duration, and write nothing')
    .addOption(settingOption(settings, 'prompt'))
    .addOption(settingOption(settings, 'model'))
    .addOption(settingOption(settings, 'device'))
    .addOption(settingOption(settings, 'dtype'))
    .addOption(settingOption(settings, 'precision'))
    .addHelpText('after', details)
    .action((flags: CalibrateFlags) => runCalibration(flags, environment))
}
