/** What data sets and tables call the field of the image. */
export const imageFields: ReadonlySet<string> = new Set(
  (
    'image image_url image_uri image_path image_file image_name imageurl imagepath url uri path file file_name filename ' +
    'filepath file_path src img img_path photo picture'
  ).split(' '),
)

export const isImageField = (name: string) => imageFields.has(name)
