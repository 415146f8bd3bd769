import { escapeControls } from '../../infra/telemetry/escape-controls.ts'
import { eraseLine, type ProgressStream } from './progress.ts'

/** A stream that escapes control characters, except for the erased line that a text of ours begins with. */
export function printable(stream: ProgressStream): ProgressStream {
  return {
    get isTTY() {
      return stream.isTTY
    },
    get columns() {
      return stream.columns
    },
    write: (text) => {
      const start = text.startsWith(eraseLine) ? eraseLine : ''
      return stream.write(start + escapeControls(text.slice(start.length)))
    },
  }
}
