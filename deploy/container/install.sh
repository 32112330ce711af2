#!/bin/sh
# Install what pyproject.toml asks for, or the project, into /opt/fedpsyau; part of the Dockerfile.
#
# usage: install.sh dependencies
#        install.sh project FOLDER     what this adds is copied below FOLDER, too
set -eu

environment=/opt/fedpsyau
packages=$environment/lib/python3.11/site-packages
wheels=$PWD/deploy/wheelhouse

if ls "$wheels"/*.whl >/dev/null 2>&1; then
    echo "installing from deploy/wheelhouse alone"
    export PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels"
    unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL || true
    TORCH_INDEX=
fi

install() {
    python -m pip --python "$environment/bin/python" install --quiet --no-compile \
        --constraint constraints.txt "$@"
}

dependencies() {
    python -m venv --without-pip "$environment"
    python - >/tmp/requirements.txt <<'PYTHON'
import tomllib

print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")
PYTHON
    if [ -n "${TORCH_INDEX:-}" ]; then
        install --index-url "$TORCH_INDEX" "$(grep '^torch==' /tmp/requirements.txt)"
    fi
    install --requirement /tmp/requirements.txt
    leave_out
    compile "$packages"
}

# What serves those who build with these packages or test them, and uv, which Flower has for code
# that arrives with a run; none does here.
leave_out() {
    find "$packages" -type d -name tests -prune -exec rm -rf {} +
    rm -rf "$packages/torch/test" "$packages/torch/include" "$packages/torch/share" \
        "$packages"/torch/bin/test_* "$packages"/torch/bin/*Test "$packages"/torch/bin/protoc* \
        "$environment/bin/uv" "$environment/bin/uvx"
}

# Byte code that is the same in every build and is not compared with its source at every start. A few
# files of torch and MediaPipe are for other versions of Python, which is no failure.
compile() {
    "$environment/bin/python" -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$@" || true
}

project() {
    touch /tmp/before
    install --no-deps .
    compile "$packages"/fedpsyau_*
    mkdir -p "$1"
    find "$environment" -newer /tmp/before -type f -exec cp --parents -t "$1" {} +
}

"$@"
