import { expect, test } from 'vitest'
import { describeConfig } from '../../infra/config.ts'
import { describeVariables, settingOption, settingOptions } from './settings.ts'

test('an option is named like its setting and says variable, values and default', () => {
  const option = settingOption(describeConfig(), 'logFormat')
  expect([option.attributeName(), option.flags]).toEqual(['logFormat', '--log-format <FORMAT>'])
  expect(option.description).toMatch(/auto \| text \| json \(TURBINE_LOG_FORMAT, default: auto\)$/)
})

test('every setting is an option and has a line in the help', () => {
  const settings = describeConfig()
  expect(settingOptions(settings).map((option) => option.attributeName())).toEqual(
    settings.map(({ name }) => name),
  )
  const help = describeVariables(settings)
  for (const { variable } of settings) expect(help).toContain(`  ${variable} `)
  expect(help).toContain('HF_TOKEN')
})
