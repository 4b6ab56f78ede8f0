# shellcheck shell=bash
# A real S3 server (versitygw) over a folder: a bucket is a folder, an object a file in it.
#
# Invariants: the credentials are for tests and public; the server is reached in the namespace only.

S3_ACCESS_KEY=thalweg
S3_SECRET_KEY=thalweg-secret
S3_REGION=us-east-1
S3_DEFAULT_BUCKET=thalweg

s3_verb() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  case $verb in
    up) lock_cluster && s3_up ;;
    down) lock_cluster && s3_down ;;
    bucket) [ $# -eq 1 ] && mkdir -p "$STATE/s3/$1" ;;
    *) fail "usage: s3 up|down|bucket NAME" ;;
  esac
}

s3_up() {
  require_built versitygw
  if ! alive s3; then
    mkdir -p "$STATE/s3/$S3_DEFAULT_BUCKET"
    network_up
    start s3 "$(component_dir versitygw)/versitygw" --access "$S3_ACCESS_KEY" --secret "$S3_SECRET_KEY" \
      --region "$S3_REGION" --port "$S3_ADDRESS" posix "$STATE/s3"
    wait_for 20 S3 s3 in_ns curl -s "http://$S3_ADDRESS/"
  fi
  cat <<TEXT
endpoint=http://$S3_ADDRESS
region=$S3_REGION
access_key=$S3_ACCESS_KEY
secret_key=$S3_SECRET_KEY
bucket=$S3_DEFAULT_BUCKET
TEXT
}

s3_down() {
  stop_components TERM s3
  rm -rf "$STATE/s3"
}
